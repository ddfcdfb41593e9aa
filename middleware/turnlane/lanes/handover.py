"""Handing a lane over: turns start, end, and let those who joined them end first."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
from abc import abstractmethod
from collections.abc import Iterable
from typing import cast

from turnlane.clock import Clock
from turnlane.hooks import Hooks, TurnStarted
from turnlane.lanes.chains import discard_nested
from turnlane.lanes.home import Home
from turnlane.lanes.limits import Limits
from turnlane.lanes.line import Group, Line, Waiter
from turnlane.lanes.outcomes import WEIGHT_OF_NEWEST
from turnlane.turns.talk import Talk
from turnlane.turns.turn import Joins, Turn, TurnState

__all__ = ("Handover",)

RUNNING, ENDED = TurnState.RUNNING, TurnState.ENDED


class Handover(Home):
    """What happens to the lanes of one event loop when a turn ends.

    Mutable, beside what `Home` has: `_last_token` (tokens only grow, over all keys, so that nothing need be kept for an
    idle one).
    """

    def __init__(self, *, limits: Limits, hooks: Hooks, clock: Clock, slow_after: float | None) -> None:
        super().__init__(limits=limits, hooks=hooks, clock=clock, slow_after=slow_after)
        self._last_token = 0

    def leave(self, turn: Turn, exc: BaseException | None) -> BaseException | None:
        """Let the lane go and hand it to the next; return the error that takes the place of `exc`, if any.

        Called again, or for a turn of a loop that is gone, it does nothing.
        """
        if turn._state is not RUNNING:
            return None
        if turn._joins is not None:
            return self._leave_to_joined(turn, turn._joins, exc)
        turn._state = ENDED
        table = self.table
        if exc is None and turn._end is None and turn._talk is None and not self.guarded and not self.hooks.active:
            key = turn.key
            if table.holders.get(key) is turn:
                self.outcomes.completed += 1
                line = table.lines.get(key)
                if line is None:
                    del table.holders[key]
                else:
                    self._pass_on(turn, line)
            return None
        if self._loop is not None and self._loop.is_closed():
            self.forget_all()  # a task that is collected after its loop was closed: nobody is left to hand over to
            return None
        replacement = None if turn._end is None else self.endings.settle(turn, exc)
        ran = self._monotonic() - turn._started
        if turn._talk is not None:
            self.end_talk(turn, turn._talk)
        waited_for = table.is_waited_for(turn.key)
        granted = table.finish(turn)
        try:
            self.outcomes.record(turn, replacement or exc, ran=ran, waited_for=waited_for)
        finally:
            self.hand_over(granted)
        if self.drains and not table.holders:
            for drain in self.drains:
                drain.set()
        return replacement

    def settle_late(self, turn: Turn, exc: BaseException | None) -> BaseException | None:
        """Return the error that takes the place of `exc` in the task of a turn whose lane another task has let go."""
        return None if turn._end is None or exc is None else self.endings.settle(turn, exc)

    def join(self, turn: Turn, task: "asyncio.Task[object] | None") -> None:
        """Note that a call runs inside a running turn that it did not start: the lane waits for it too.

        `task` is the one it runs in, and is cancelled with the turn; None for one that may go from task to task.
        """
        if turn._end is not None:
            turn._end.over = False
        joins = turn._joins = turn._joins or Joins()
        joins.tasks[task] = joins.tasks.get(task, 0) + 1

    def is_last(self, turn: Turn, task: "asyncio.Task[object] | None") -> bool:
        """Tell whether a call that joined a turn is the last of it that goes on."""
        joins = turn._joins
        return joins is not None and joins.left and joins.tasks == {task: 1}

    def unjoin(
        self, turn: Turn, task: "asyncio.Task[object] | None", exc: BaseException | None = None
    ) -> BaseException | None:
        """Note that such a call has ended, and let the lane go if it was the last and the turn's own block has too.

        Returns the error that takes the place of `exc`, if any.
        """
        joins, replacement = turn._joins, None
        if joins is None or task not in joins.tasks:
            return None
        joins.tasks[task] -= 1
        if not joins.tasks[task]:
            del joins.tasks[task]
            if task is not None and task in joins.cancelled:
                replacement = self.endings.settle_joined(turn, joins, task, exc)
        if not joins.tasks:
            turn._joins = None
            if joins.left:
                self.leave(turn, joins.error)
        return replacement

    def _leave_to_joined(self, turn: Turn, joins: Joins, exc: BaseException | None) -> BaseException | None:
        if joins.left:
            return None
        ending, replacement = turn._end, None
        joins.left = True
        if ending is not None and ending.cancelled:
            replacement = self.endings.settle(turn, exc)
            self.endings.cancel_joined(joins)  # the time is over for them too
        # Otherwise what was armed, a timeout or the rest of a grace, stays armed for them.
        joins.error = replacement or exc
        return replacement

    def _pass_on(self, turn: Turn, line: Line) -> None:
        """Hand the lane of a turn that ended well to the next in its line, with no cap, pause or hook in the way.

        It is `Table.finish` and `_grant` written out: of a hand-over on a hot key half would be calls.
        """
        waiter, table = cast("Waiter", line.head), self.table
        successor = waiter.turn
        endings = self._endings
        nested = waiter.ancestor is not None or successor._parent is not None or successor._chain is not None
        if nested or waiter.group is not None or (endings is not None and endings.timeouts):
            self.outcomes.measure(self._monotonic() - turn._started)
            self.hand_over(table.finish(turn))
            return
        line.head = following = waiter.next
        if following is None:
            line.tail = None
            del table.lines[line.key]
        else:
            following.previous = None
            waiter.next = None
        waiter.line = None
        line.size -= 1
        table.waiting -= 1
        table.holders[line.key] = successor
        if waiter.deadline is not None and self._deadlines is not None:
            self._deadlines.discard(waiter)
        now = self._monotonic()
        waiter.waited = now - successor._started
        successor._started = now
        token = int((now + self._wall_offset) * 1e6)
        if token <= self._last_token:
            token = self._last_token + 1
        self._last_token = successor.token = token
        successor._state = RUNNING
        outcomes = self.outcomes
        mean, ran = outcomes.mean_turn, now - turn._started
        outcomes.mean_turn = ran if mean is None else mean + WEIGHT_OF_NEWEST * (ran - mean)
        self._wake(waiter, None)
        del waiter.turn  # else each turn that waited would be a cycle with its waiter

    @abstractmethod
    def end_talk(self, turn: Turn, talk: Talk) -> None:
        """Tell those whose messages a turn took, or was offered, that it has ended."""

    @abstractmethod
    def forget_window(self, group: Group) -> None:
        """Wait no longer for a group to be complete."""

    def hand_over(self, granted: Iterable[Waiter]) -> None:
        """Start the turns whose waiters the table gave a lane, and wake their tasks."""
        for waiter in granted:
            self._grant(waiter)

    def _grant(self, waiter: Waiter) -> None:
        turn = waiter.turn
        if waiter.group is not None:
            self.forget_window(waiter.group)
        if waiter.deadline is not None and self._deadlines is not None:
            self._deadlines.discard(waiter)
        if turn._parent is not None or turn._chain is not None:
            discard_nested(turn)
        arrived = turn._started
        self._start(turn)
        waiter.waited = turn._started - arrived
        try:
            if self.hooks.active:
                self.tell_started(turn)
        finally:  # whatever leaves a listener
            self._wake(waiter, None)
            del waiter.turn  # as in `_pass_on`

    def _start(self, turn: Turn) -> None:
        turn._started = now = self._monotonic()
        token = int((now + self._wall_offset) * 1e6)
        if token <= self._last_token:
            token = self._last_token + 1
        self._last_token = turn.token = token
        turn._state = RUNNING
        if self._endings is not None and self._endings.timeouts:
            self._endings.arm_if_due(turn)

    def tell_started(self, turn: Turn) -> None:
        """Tell hooks of a turn that has started."""
        if self.hooks.wants(TurnStarted):
            self.hooks.emit(TurnStarted(key=turn.key, turn=turn.id, token=turn.token, waited=turn.waited))

    def _wake(self, waiter: Waiter, error: BaseException | None) -> None:
        if waiter.future.done():
            return  # its task was cancelled and will find the turn's state
        try:
            waiter.future.set_result(error)
        except RuntimeError:
            if not waiter.future.get_loop().is_closed():
                raise
