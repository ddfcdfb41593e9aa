"""How a running turn is ended from outside: interruption and turn timeout.

Both cancel the turn's task, once, and wait for it to end by itself: the lane goes on only when the turn has
left. A task that waits for a worker thread is cancelled when the thread is done, since the thread can not be: it would
run on beside the successor. What leaves the turn's block is told apart from a cancellation by others, which always
wins.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Callable
from functools import partial

from turnlane import errors
from turnlane.hooks import Hooks, TurnInterruption
from turnlane.stacks import before_resuming, waits_for_thread
from turnlane.turns.turn import Ending, Joins, Turn

__all__ = ("Endings", "is_over")

THREAD_LOOK_SECONDS = 0.05


def is_over(turn: Turn) -> bool:
    """Tell whether a running turn has done all it was to do."""
    return turn._end is not None and turn._end.over


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
        ending.seconds = seconds
        ending.timer = self._loop.call_later(seconds, self._time_out, turn)

    def arm_if_due(self, turn: Turn) -> None:
        """Arm the timeout that was asked for while the turn stood in line."""
        seconds = self.timeouts.pop(turn, None)
        if seconds is not None:
            self.arm_timeout(turn, seconds)

    def interrupt(self, turn: Turn, *, by: str | None, grace: float) -> bool:
        """Ask a running turn to stop and cancel its task after `grace` seconds; False if it was asked before.

        One that is over by itself is not asked: it has given its answer, and lets the lane go in a moment.
        """
        ending = turn._end = turn._end or Ending()
        if ending.over:
            return False
        if not ending.asked and ending.flag is not None:
            ending.flag.set()
        ending.asked = True  # also a turn whose time is over, and that is cleaning up or waits for its thread
        if ending.kind is not None:
            self._hasten(turn, ending, by=by, grace=grace)
            return False
        if ending.timer is not None:
            grace = min(grace, max(ending.timer.when() - self._loop.time(), 0.0))  # the turn timeout still counts
            ending.timer.cancel()
        ending.kind = "interrupt"
        ending.by = by
        # Never cancelled from here: the turn may be interrupting itself, and must not be cut in mid-step.
        ending.timer = self._loop.call_later(grace, self._cancel, turn, ending)
        if self._hooks.active and self._hooks.wants(TurnInterruption):
            self._hooks.emit(TurnInterruption(key=turn.key, turn=turn.id, by=by, grace=grace))
        return True

    def lose(self, turn: Turn, where: str) -> None:
        """Cancel a running turn whose lane has been lost by the engine that `where` names."""
        ending = turn._end = turn._end or Ending()
        if ending.lost:
            return
        ending.lost = where
        ending.kind = ending.kind or "lost"
        if ending.timer is not None:
            ending.timer.cancel()
        self._cancel(turn, ending)

    def finish(self, turn: Turn) -> None:
        """Note that a turn has done all it was to do."""
        turn._end = turn._end or Ending()
        turn._end.over = True

    def _hasten(self, turn: Turn, ending: Ending, *, by: str | None, grace: float) -> None:
        """Let a later interruption with less patience count, while the turn is not cancelled yet."""
        timer = ending.timer
        if ending.kind == "interrupt" and timer is not None and self._loop.time() + grace < timer.when():
            timer.cancel()
            ending.by = by
            ending.timer = self._loop.call_later(grace, self._cancel, turn, ending)

    def settle(self, turn: Turn, exc: BaseException | None) -> BaseException | None:
        """Undo what was armed for a turn that has ended; return the error to raise instead of `exc`, if any."""
        ending = turn._end
        if ending is None:
            return None
        if ending.timer is not None:
            ending.timer.cancel()
        if not ending.cancelled or turn._task is None:
            return None
        if exc is None and asyncio.current_task() is not turn._task:
            return None  # let go by another task; the turn's own has its cancellation still before it
        ending.cancelled = False
        return self._instead(turn, ending, turn._task, exc)

    def settle_joined(
        self, turn: Turn, joins: Joins, task: "asyncio.Task[object]", exc: BaseException | None
    ) -> BaseException | None:
        """The same for a call that joined the turn, in the task it ran in."""
        ending = turn._end
        if ending is None or task not in joins.cancelled:
            return None
        joins.cancelled.discard(task)
        return self._instead(turn, ending, task, exc)

    def cancel_joined(self, joins: Joins) -> None:
        """Cancel the calls that go on although the turn's own block has ended, each once."""
        for task in list(joins.tasks):
            self._cancel_call(joins, task)

    def _cancel_call(self, joins: Joins, task: "asyncio.Task[object] | None") -> None:
        if task is None or task in joins.cancelled or task not in joins.tasks or task.done():
            return

        def cut() -> None:
            if task in joins.tasks and task not in joins.cancelled:
                joins.cancelled.add(task)
                task.cancel()

        self._without_thread(task, cut, partial(self._cancel_call, joins, task))

    def _without_thread(
        self, task: "asyncio.Task[object]", cut: Callable[[], None], again: Callable[[], None]
    ) -> asyncio.TimerHandle | None:
        """Call `cut` at once, or between the end of the thread the task waits for and its next step.

        Where that moment can not be had, `again` is called later: by the handle that is returned, if it is known now.
        """

        def resumes(waited_for: "asyncio.Future[object]") -> None:
            if waited_for.cancelled():  # by somebody else, whose cancellation ours must not melt into
                self._loop.call_soon(again)
            else:
                cut()

        if not waits_for_thread(task.get_coro()):
            cut()
        elif not before_resuming(task, resumes):
            return self._loop.call_later(THREAD_LOOK_SECONDS, again)
        return None

    def _instead(
        self, turn: Turn, ending: Ending, task: "asyncio.Task[object]", exc: BaseException | None
    ) -> BaseException | None:
        # What is asked for after ours was taken back is somebody else's cancellation, and wins.
        if task.uncancel() > 0 or not isinstance(exc, asyncio.CancelledError):
            return None
        if ending.lost:
            reason = "its lease has ended, or could not be renewed in time"
            return errors.EngineUnavailable(
                ending.lost, operation="keep the lane", reason=reason, key=turn.key, turn=turn.id
            )
        if ending.kind == "interrupt":
            return errors.TurnInterrupted(turn.key, turn=turn.id, into=ending.by, running=True)
        return errors.TurnTimeout(turn.key, turn=turn.id, turn_timeout=ending.seconds)

    def _time_out(self, turn: Turn) -> None:
        ending = turn._end
        if ending is not None and ending.kind is None:
            ending.kind = "timeout"
            self._cancel(turn, ending)

    def _cancel(self, turn: Turn, ending: Ending) -> None:
        ending.timer = None
        task, joins = turn._task, turn._joins
        if not turn.running or ending.cancelled:
            return
        if joins is not None and joins.left:
            self.cancel_joined(joins)
        elif task is not None and not task.done():
            again = partial(self._cancel, turn, ending)
            ending.timer = self._without_thread(task, partial(self._cancel_now, turn, ending, task), again)

    def _cancel_now(self, turn: Turn, ending: Ending, task: "asyncio.Task[object]") -> None:
        joins = turn._joins
        if turn.running and not ending.cancelled and not (joins is not None and joins.left):
            ending.cancelled = True
            task.cancel()
