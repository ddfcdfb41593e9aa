"""Leaving a line without having run."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio

from turnlane import errors
from turnlane.hooks import TurnRefused
from turnlane.lanes.chains import discard_nested
from turnlane.lanes.handover import Handover
from turnlane.lanes.line import Waiter
from turnlane.turns.turn import Turn, TurnState

__all__ = ("Leaving",)

WAITING, RUNNING, ENDED = TurnState.WAITING, TurnState.RUNNING, TurnState.ENDED


class Leaving(Handover):
    """The ways out of the lines of one event loop, other than to the lane."""

    def wait_failed(self, turn: Turn, caught: BaseException) -> BaseException | None:
        """Leave the line, or pass the lane on, after a wait was cancelled; return the error that takes its place."""
        waiter = turn._wait
        if turn._state is RUNNING:
            return self.leave(turn, caught)
        if turn._state is WAITING and isinstance(waiter, Waiter):
            self._take_out(waiter)
            self._refuse(turn, None, "cancelled")
            del waiter.turn  # the waiter may be kept for a while by its deadline, its turn and task must not
        return None

    def expel(self, turn: Turn, error: BaseException, reason: str) -> bool:
        """End the wait of a turn with `error`; tell whether it was still waiting."""
        waiter = turn._wait
        if turn._state is not WAITING or not isinstance(waiter, Waiter):
            return False
        self._take_out(waiter)
        self._refuse(turn, error, reason)
        self._wake(waiter, error)
        del waiter.turn
        return True

    def _take_out(self, waiter: Waiter) -> None:
        self._forget_wait(waiter)
        self.table.withdraw(waiter)
        deserted = waiter.group is not None and not waiter.group.members
        if deserted and waiter.group is not None:
            self.forget_window(waiter.group)
        if deserted or self.table.capacity is not None:
            # Who stood behind a window that nobody waits for now, or behind somebody whose principal has no place.
            self.hand_over(self.table.promote(waiter.turn.key))

    def _forget_wait(self, waiter: Waiter) -> None:
        if waiter.deadline is not None:
            self.deadlines.discard(waiter)
        if waiter.turn._parent is not None or waiter.turn._chain is not None:
            discard_nested(waiter.turn)

    def _expire(self, waiter: Waiter) -> None:
        turn = waiter.turn
        holder = self.table.holders.get(turn.key)
        error = errors.WaitTimeout(turn.key, wait_timeout=waiter.timeout, holder=holder.id if holder else None)
        self.expel(turn, error, "wait_timeout")

    def _dismiss(self, waiter: Waiter, reason: str, *, by: Turn) -> None:
        """Tell a turn that was taken out of its line that another has its place."""
        turn = waiter.turn
        self._forget_wait(waiter)
        if waiter.group is not None and not waiter.group.members:
            self.forget_window(waiter.group)
        error = errors.TurnInterrupted(turn.key, turn=turn.id, into=by.id, running=False)
        self._refuse(turn, error, reason)
        self._wake(waiter, error)
        del waiter.turn

    def _refuse(self, turn: Turn, error: BaseException | None, reason: str) -> BaseException:
        turn._state = ENDED
        if self._endings is not None:
            self._endings.timeouts.pop(turn, None)
        self.outcomes.refuse(reason)
        if self.hooks.active and self.hooks.wants(TurnRefused) and not isinstance(error, errors.TurnRedirected):
            waited = self._monotonic() - turn._started
            self.hooks.emit(TurnRefused(key=turn.key, turn=turn.id, reason=reason, waited=waited))
        return error if error is not None else asyncio.CancelledError()
