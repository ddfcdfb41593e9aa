"""How a running turn is ended from outside: interruption and turn timeout.

Both cancel the turn's task, once, and wait for it to end by itself: the lane goes on only when the turn has
left. What leaves the turn's block is told apart from a cancellation by others, which always wins.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio

from turnlane import errors
from turnlane.hooks import Hooks, TurnInterruption
from turnlane.turns.turn import Ending, Turn

__all__ = ("Endings",)


class Endings:
    """Brings running turns of one loop to their end.

    Mutable: `timeouts` (seconds, of turns that still wait in line); the rest is on each turn's `Ending`.
    """

    __slots__ = ("_hooks", "_loop", "timeouts")

    def __init__(self, loop: asyncio.AbstractEventLoop, hooks: Hooks) -> None:
        self._loop = loop
        self._hooks = hooks
        self.timeouts: dict[Turn, float] = {}

    def arm_timeout(self, turn: Turn, seconds: float) -> None:
        """Cancel a running turn `seconds` from now."""
        ending = turn._end = turn._end or Ending()
        ending.timer = self._loop.call_later(seconds, self._time_out, turn, seconds)

    def arm_if_due(self, turn: Turn) -> None:
        """Arm the timeout that was asked for while the turn stood in line."""
        seconds = self.timeouts.pop(turn, None)
        if seconds is not None:
            self.arm_timeout(turn, seconds)

    def interrupt(self, turn: Turn, *, by: str | None, grace: float) -> bool:
        """Ask a running turn to stop and cancel its task after `grace` seconds; False if it was asked before."""
        ending = turn._end = turn._end or Ending()
        if ending.kind is not None:
            return False
        if ending.timer is not None:
            ending.timer.cancel()
        ending.kind = "interrupt"
        ending.by = by
        if ending.flag is not None:
            ending.flag.set()
        # Never cancelled from here: the turn may be interrupting itself, and must not be cut in mid-step.
        ending.timer = self._loop.call_later(grace, self._cancel, turn, ending)
        if self._hooks.active and self._hooks.wants(TurnInterruption):
            self._hooks.emit(TurnInterruption(key=turn.key, turn=turn.id, by=by, grace=grace))
        return True

    def settle(self, turn: Turn, exc: BaseException | None) -> BaseException | None:
        """Undo what was armed for a turn that has ended; return the error to raise instead of `exc`, if any."""
        ending = turn._end
        if ending is None:
            return None
        if ending.timer is not None:
            ending.timer.cancel()
        if ending.cancelling is None or turn._task is None:
            return None
        others = turn._task.uncancel() > ending.cancelling or ending.cancelling > 0
        if others or not isinstance(exc, asyncio.CancelledError):
            return None
        if ending.kind == "interrupt":
            return errors.TurnInterrupted(turn.key, turn=turn.id, into=ending.by, running=True)
        return errors.TurnTimeout(turn.key, turn=turn.id, turn_timeout=float(ending.by or 0))

    def _time_out(self, turn: Turn, seconds: float) -> None:
        ending = turn._end
        if ending is not None and ending.kind is None:
            ending.kind = "timeout"
            ending.by = repr(seconds)
            self._cancel(turn, ending)

    def _cancel(self, turn: Turn, ending: Ending) -> None:
        ending.timer = None
        task = turn._task
        if turn.running and task is not None and not task.done():
            ending.cancelling = task.cancelling()
            task.cancel()
