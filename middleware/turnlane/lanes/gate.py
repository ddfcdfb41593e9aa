"""The gate: waiting for a lane, leaving the line, handing the lane over.

The table decides, synchronously; the gate does what it said: mints tokens, wakes tasks, arms timers, tells
hooks. There is one `await` here, in `wait`, and after it everything is decided already: a turn that was
handed its lane holds it from the moment of the hand-over, whether or not its task has noticed. So whoever
is cancelled between hand-over and wake-up passes the lane on, and nobody can slip in between.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
import secrets
from collections.abc import Iterable

from turnlane import errors
from turnlane.clock import Clock
from turnlane.hooks import Hooks, TurnQueued, TurnRefused, TurnStarted
from turnlane.lanes.chains import Chains, ancestors
from turnlane.lanes.deadlines import Deadlines
from turnlane.lanes.endings import Endings
from turnlane.lanes.outcomes import Outcomes
from turnlane.lanes.table import Table, Waiter
from turnlane.policies import Enqueue, Interrupt, Policy, Reject
from turnlane.turns.turn import Turn, TurnState, _current, nearest_running

__all__ = ("Gate",)

WAITING, RUNNING, ENDED = TurnState.WAITING, TurnState.RUNNING, TurnState.ENDED


class Gate:
    """All lanes of one event loop.

    Mutable: `table` (who holds and waits), `draining`, `paused` (keys), `_loop` (bound while a lane lives),
    `_last_token` (tokens only grow, over all keys, so that nothing need be kept for an idle one).
    `guarded` is true when the short way through `enter_nowait` is not open: a cap, a pause or a drain.
    """

    def __init__(self, *, max_running: int | None, hooks: Hooks, clock: Clock, slow_after: float | None) -> None:
        self.name: str = secrets.token_hex(6)
        self.hooks: Hooks = hooks
        self.table: Table = Table(max_running)
        self.outcomes: Outcomes = Outcomes(hooks)
        self.paused: set[str] = set()
        self.draining: bool = False
        self.guarded: bool = max_running is not None
        self.idle: asyncio.Event | None = None  # set when the last running turn ends, while a drain waits
        self._chains = Chains(self.table)
        self._slow_after = slow_after
        self._monotonic = clock.monotonic
        self._wall_ns = clock.wall_ns
        self._last_token = 0
        self._number = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deadlines: Deadlines | None = None
        self._endings: Endings | None = None

    # -- arriving

    def enter_nowait(self, key: str) -> Turn | None:
        """Start a turn if its lane is idle and nothing is special; None sends the caller the long way.

        The path of nearly every request, so it is flat: one pass, no call that can be avoided.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self.bind(loop)
        table = self.table
        if self.guarded or key in table.holders:
            return None
        parent = _current.get()
        token = self._wall_ns() // 1000
        if token <= self._last_token:
            token = self._last_token + 1
        self._last_token = token
        self._number = number = self._number + 1
        turn = Turn(key, token, number, self, asyncio.current_task(loop), parent, self._monotonic(), RUNNING)
        table.holders[key] = turn
        if self.hooks.active:
            self._tell_started(turn)
        return turn

    def arrive(self, key: str, policy: Policy, turn_timeout: float | None = None) -> Turn:
        """Start a turn, or put it in line: the place is fixed when this returns.

        Raises:
            LaneBusy, LaneFull, LaneReentry, LanesDraining, CapacityExceeded: the turn was refused.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self.bind(loop)
        parent = nearest_running(_current.get())
        self._number += 1
        turn = Turn(key, 0, self._number, self, asyncio.current_task(loop), parent, self._monotonic(), WAITING)
        ancestor = parent
        while ancestor is not None and (ancestor._owner is not self or not ancestor.running):
            ancestor = ancestor._parent
        if self.draining and ancestor is None:
            raise self._refuse(turn, errors.LanesDraining(key), "draining")
        if self.table.enter(turn, ancestor):
            self._start(turn)
        else:
            self._stand_in_line(turn, ancestor, policy)
        if turn_timeout is not None:
            if turn._wait is None:
                self.endings.arm_timeout(turn, turn_timeout)
            else:
                self.endings.timeouts[turn] = turn_timeout
        return turn

    def _stand_in_line(self, turn: Turn, ancestor: Turn | None, policy: Policy) -> None:
        key, table = turn.key, self.table
        chain = ancestors(turn._parent) if turn._parent is not None else []
        cycle = self._chains.cycle(key, chain)
        if cycle is not None:
            raise self._refuse(turn, errors.LaneReentry(key, cycle=cycle), "reentry")
        if isinstance(policy, Interrupt):
            self._take_over(turn, policy)
        else:
            self._require_room(turn, policy)
        turn._wait = waiter = Waiter(turn, ancestor)
        waiter.future = self.loop.create_future()
        granted = table.queue(waiter)
        if isinstance(policy, Enqueue) and policy.hint_after is not None:
            waiter.hinted = waiter.position >= policy.hint_after
        if chain:
            self._chains.add(waiter, chain)
        if not isinstance(policy, Reject) and policy.wait_timeout is not None:
            self.deadlines.add(waiter, policy.wait_timeout)
        if self.hooks.active and self.hooks.wants(TurnQueued):
            self.hooks.emit(TurnQueued(key=key, turn=turn.id, ahead=waiter.position, hint=waiter.hinted))
        self.hand_over(granted)

    def _require_room(self, turn: Turn, policy: Enqueue | Reject) -> None:
        key = turn.key
        held, waiting = key in self.table.holders, self.table.line_length(key)
        room = 0 if isinstance(policy, Reject) else policy.max_waiting
        if room is None or waiting < room:
            return
        if not held and not waiting and key not in self.paused:
            limit = self.table.max_running or 0
            raise self._refuse(turn, errors.CapacityExceeded(key, resource="max_running", limit=limit), "capacity")
        if isinstance(policy, Reject):
            raise self._refuse(turn, errors.LaneBusy(key, ahead=waiting + held), "busy")
        raise self._refuse(turn, errors.LaneFull(key, waiting=waiting, max_waiting=room), "full")

    def _take_over(self, turn: Turn, policy: Interrupt) -> None:
        for earlier in self.table.supersede(turn.key):
            self._dismiss(earlier, "superseded", by=turn)
        holder = self.table.holders.get(turn.key)
        if holder is not None:
            self.endings.interrupt(holder, by=turn.id, grace=policy.grace)

    # -- waiting

    async def wait(self, turn: Turn) -> None:
        """Wait for the turn's place to come; return at once for a turn that runs.

        Cancelled before the hand-over it leaves the line, cancelled after it the lane is passed on.

        Raises:
            WaitTimeout, TurnInterrupted, TurnTimeout, LanesDraining: what ended the wait.
        """
        waiter = turn._wait
        if not isinstance(waiter, Waiter):
            return
        try:
            error: BaseException | None = await waiter.future
        except BaseException as caught:
            if turn._state is RUNNING:
                replacement = self.leave(turn, caught)
                if replacement is not None:
                    raise replacement from caught
            elif turn._state is WAITING:
                self._take_out(waiter)
                self._refuse(turn, None, "cancelled")
            raise
        if error is not None:
            raise error

    def expel(self, turn: Turn, error: BaseException, reason: str) -> bool:
        """End the wait of a turn with `error`; tell whether it was still waiting."""
        waiter = turn._wait
        if turn._state is not WAITING or not isinstance(waiter, Waiter):
            return False
        self._take_out(waiter)
        self._refuse(turn, error, reason)
        self._wake(waiter, error)
        return True

    # -- leaving

    def leave(self, turn: Turn, exc: BaseException | None) -> BaseException | None:
        """Let the lane go and hand it to the next; return the error that takes the place of `exc`, if any.

        Called again, or for a turn of a loop that is gone, it does nothing.
        """
        if turn._state is not RUNNING:
            return None
        turn._state = ENDED
        table = self.table
        if turn._end is None and not table.lines and exc is None and not self.guarded and not self.hooks.active:
            if table.holders.get(turn.key) is turn:
                del table.holders[turn.key]
            self.outcomes.completed += 1
            return None
        replacement = None if turn._end is None else self.endings.settle(turn, exc)
        now = self._monotonic()
        self.outcomes.record(turn, replacement or exc, ran=now - turn._started)
        self.hand_over(table.finish(turn))
        if self.idle is not None and not table.holders:
            self.idle.set()
        return replacement

    def hand_over(self, granted: Iterable[Waiter]) -> None:
        """Start the turns whose waiters the table gave a lane, and wake their tasks."""
        for waiter in granted:
            turn = waiter.turn
            self._forget_wait(waiter)
            waiter.waited = self._monotonic() - turn._started
            self._start(turn)
            self._wake(waiter, None)

    def _start(self, turn: Turn) -> None:
        token = self._wall_ns() // 1000
        if token <= self._last_token:
            token = self._last_token + 1
        self._last_token = turn.token = token
        turn._started = self._monotonic()
        turn._state = RUNNING
        if self._endings is not None and self._endings.timeouts:
            self._endings.arm_if_due(turn)
        if self.hooks.active:
            self._tell_started(turn)

    def _tell_started(self, turn: Turn) -> None:
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

    # -- leaving the line

    def _take_out(self, waiter: Waiter) -> None:
        self.table.withdraw(waiter)
        self._forget_wait(waiter)

    def _forget_wait(self, waiter: Waiter) -> None:
        if waiter.deadline is not None:
            self.deadlines.discard(waiter)
        if waiter.turn._parent is not None:
            self._chains.discard(waiter)

    def _expire(self, waiter: Waiter) -> None:
        turn = waiter.turn
        holder = self.table.holders.get(turn.key)
        timeout = (waiter.deadline or 0.0) - (self.loop.time() - (self._monotonic() - turn._started))
        error = errors.WaitTimeout(turn.key, wait_timeout=round(timeout, 3), holder=holder.id if holder else None)
        self.expel(turn, error, "wait_timeout")

    def _dismiss(self, waiter: Waiter, reason: str, *, by: Turn) -> None:
        turn = waiter.turn
        self._forget_wait(waiter)
        error = errors.TurnInterrupted(turn.key, turn=turn.id, into=by.id, running=False)
        self._refuse(turn, error, reason)
        self._wake(waiter, error)

    def _refuse(self, turn: Turn, error: errors.LaneError | BaseException | None, reason: str) -> BaseException:
        turn._state = ENDED
        if self._endings is not None:
            self._endings.timeouts.pop(turn, None)
        self.outcomes.refuse(reason)
        if self.hooks.active and self.hooks.wants(TurnRefused):
            waited = self._monotonic() - turn._started
            self.hooks.emit(TurnRefused(key=turn.key, turn=turn.id, reason=reason, waited=waited))
        return error if error is not None else asyncio.CancelledError()

    # -- the loop

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop these lanes live on now."""
        if self._loop is None:
            raise errors.NotConfigured("these lanes have never been used in an event loop")
        return self._loop

    @property
    def deadlines(self) -> Deadlines:
        """The deadlines of who waits, made at the first one."""
        if self._deadlines is None:
            self._deadlines = Deadlines(self.loop, self._expire)
        return self._deadlines

    @property
    def endings(self) -> Endings:
        """The ways a running turn is brought to its end, made at the first one."""
        if self._endings is None:
            self._endings = Endings(self.loop, self.hooks)
        return self._endings

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Move these lanes to the running loop; only while nobody runs or waits in another one.

        Raises:
            NotConfigured: another loop that is not closed has lanes here.
        """
        if self._loop is not None and (self.table.holders or self.table.waiting):
            if not self._loop.is_closed():
                raise errors.NotConfigured(
                    "these memory:// lanes are in use in another event loop; one Lanes object serves one loop at a time"
                )
            # The loop is gone and its turns with it: nothing of them will ever run again.
            self._rebuild_table()
        if self._deadlines is not None and self._loop is not None and not self._loop.is_closed():
            self._deadlines.stop()
        self._loop = loop
        self._deadlines = self._endings = self.idle = None
        if self._slow_after is not None:
            loop.call_later(self._slow_after, self._look_for_slow, loop, self._slow_after)

    def _rebuild_table(self) -> None:
        paused = self.paused
        self.table = Table(self.table.max_running)
        self._chains = Chains(self.table)
        for key in paused:
            self.table.pause(key)

    def _look_for_slow(self, loop: asyncio.AbstractEventLoop, slow_after: float) -> None:
        """Watch for slow turns: one timer while lanes live, none of it on the way of a turn."""
        if loop is not self._loop:
            return
        if not self.table.holders and not self.table.waiting:
            self._loop = None  # idle: let the loop go; the next turn binds again
            self._deadlines = self._endings = None
            return
        following = self.outcomes.look_for_slow(self.table.holders.values(), self._monotonic(), slow_after)
        loop.call_later(following, self._look_for_slow, loop, slow_after)
