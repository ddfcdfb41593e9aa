"""The block of one turn."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from turnlane.lanes.gate import Gate
from turnlane.lanes.line import Waiter
from turnlane.policies import Policy
from turnlane.turns.context import _current
from turnlane.turns.talk import Talk
from turnlane.turns.turn import Turn, TurnState

__all__ = ("TurnScope",)


class TurnScope:
    """`async with lanes.turn(key) as turn`: arrives when entered, lets the lane go when left.

    `arrive` takes the place in line earlier, for a task that will enter the block; if that task ends without having
    entered it, `abandon` gives the place up.

    Mutable: `_turn` from arrival on, `_entered`, `_carries` (the turn takes over the messages of a group at once).
    """

    __slots__ = ("_carries", "_context", "_entered", "_gate", "_key", "_policy", "_talk", "_turn", "_turn_timeout")

    def __init__(
        self, gate: Gate, key: str, policy: Policy, turn_timeout: float | None, talk: Talk | None = None
    ) -> None:
        self._gate = gate
        self._key = key
        self._policy = policy
        self._turn_timeout = turn_timeout
        self._talk = talk
        self._turn: Turn | None = None
        self._entered = False
        self._carries = True

    @property
    def turn_id(self) -> str | None:
        """The id of the turn, from its arrival on."""
        return None if self._turn is None else self._turn.id

    def aim_at(self, target: object, *, require: Callable[[Any], object] | None = None) -> Self:
        """Keep the message apart from those that something else would answer; `require` raises for what can not be."""
        if self._talk is not None:
            self._talk.target = target
            self._talk.require = require
        return self

    def without_carrying(self) -> Self:
        """Leave the messages of a group alone until `carry`, for a turn that may yet turn out to be none."""
        self._carries = False
        return self

    def carry(self) -> None:
        """Take over the messages of a group.

        Raises:
            BaseException: what `merge` raised; the lane is let go then.
        """
        if self._turn is not None:
            self._gate.begin_carrying(self._turn)

    def arrive(self, task: "asyncio.Task[object]") -> None:
        """Take the place in line now; `task` is the one that will enter the block, and is cancelled in its stead."""
        self._turn = self._gate.arrive(self._key, self._policy, self._turn_timeout, task=task, talk=self._talk)

    def abandon(self, exc: BaseException | None = None) -> BaseException | None:
        """Give up a place that was never entered; return the error that takes the place of `exc`, if any."""
        turn = self._turn
        if turn is None or self._entered or turn._state is TurnState.ENDED:
            return None
        self._gate.expel(turn, asyncio.CancelledError(), "cancelled")
        return self._gate.leave(turn, exc or asyncio.CancelledError())

    async def __aenter__(self) -> Turn:
        if self._entered:
            raise RuntimeError("a turn's block can be entered once; call lanes.turn() again")
        self._entered = True
        gate, turn = self._gate, self._turn
        if turn is None:
            turn = self._turn = gate.arrive(self._key, self._policy, self._turn_timeout, talk=self._talk)
        waiter = turn._wait
        if isinstance(waiter, Waiter):  # what gate.wait does, without a coroutine of its own for each who waits
            try:
                error: BaseException | None = await waiter.future
            except BaseException as caught:
                replacement = gate.wait_failed(turn, caught)
                if replacement is not None:
                    raise replacement from caught
                raise
            finally:
                waiter.future = None
            if error is not None:
                raise error
            if self._carries and waiter.absorbed is not None:
                gate.begin_carrying(turn)
        self._context = _current.set(turn)
        return turn

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        turn = self._turn
        if turn is None:
            return
        try:  # noqa: SIM105  suppress() would cost more than all else here
            _current.reset(self._context)
        except ValueError:
            pass  # left in another context (a generator closed elsewhere), which never had the turn
        if exc is not None and turn._talk is not None:
            turn._talk.result = None  # whatever it has shared: a turn that fails has no result
        replacement = self._gate.leave(turn, exc)
        if replacement is not None:
            raise replacement from exc
