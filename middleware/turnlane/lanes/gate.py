"""The gate: waiting for a lane, leaving the line, handing the lane over.

The table decides, synchronously; the gate does what it said: mints tokens, wakes tasks, arms timers, tells
hooks. There is one `await` here, in `wait` (`TurnScope` has the same), and after it everything is decided already: a
turn that was handed its lane holds it from the moment of the hand-over, whether or not its task has noticed. So whoever
is cancelled between hand-over and wake-up passes the lane on, and nobody can slip in between.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio

from turnlane import errors
from turnlane.hooks import DrainStarted, TurnQueued
from turnlane.lanes.capacity import principal_of
from turnlane.lanes.chains import add_nested, chain_of, cycle, lender_of
from turnlane.lanes.coalescing import Coalescing
from turnlane.lanes.endings import is_over
from turnlane.lanes.line import Waiter
from turnlane.policies import Coalesce, Enqueue, Interrupt, Policy, Reject, Rollback, Steer
from turnlane.turns.chain import BroughtChain
from turnlane.turns.context import _current, nearest_running
from turnlane.turns.talk import Talk
from turnlane.turns.turn import Ending, Turn, TurnState

__all__ = ("Gate",)

WAITING, RUNNING, ENDED = TurnState.WAITING, TurnState.RUNNING, TurnState.ENDED


class Gate(Coalescing):
    """All lanes of one event loop."""

    # -- arriving

    def arrive(
        self,
        key: str,
        policy: Policy,
        turn_timeout: float | None = None,
        *,
        origin: object = None,
        task: "asyncio.Task[object] | None" = None,
        chain: BroughtChain | None = None,
        talk: Talk | None = None,
    ) -> Turn:
        """Start a turn, or put it in line: the place is fixed when this returns.

        `origin` is the client of a request: see `caller_of`. `task` is the turn's task, if it is not this one.
        `chain` is what the request brought; inside a running turn the context says more. `talk` holds its message.

        Raises:
            LaneBusy, LaneFull, LaneReentry, LanesDraining, CapacityExceeded: the turn was refused.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self.bind(loop)
        if task is None:
            task = asyncio.current_task(loop)
        parent = _current.get()
        if parent is not None:
            parent = nearest_running(parent)
        turn = Turn()
        turn.key = key
        turn.token = 0
        self._last_token = turn._number = self._last_token + 1  # names it; its token comes when it starts
        turn.session = turn._wait = turn._end = turn._joins = turn._nested = turn._transcript = None
        turn._parent = parent
        turn._chain = chain if parent is None else None
        turn._owner = self
        turn._task = task
        turn._started = self._monotonic()
        turn._state = WAITING
        turn._origin = origin
        turn._talk = talk
        if isinstance(policy, Rollback):
            turn._end = Ending()
            turn._end.takes_back = True
        ancestor = self._ancestor_of(turn)
        if self.draining and ancestor is None:
            raise self._refuse(turn, errors.LanesDraining(key), "draining")
        if not self.table.enter(turn, ancestor):
            self._stand_in_line(turn, ancestor, policy)
            if turn_timeout is not None:
                if turn.running:
                    self.endings.arm_timeout(turn, turn_timeout)
                elif turn._state is WAITING:  # and was not refused, or told, by an engine that answers at once
                    self.endings.timeouts[turn] = turn_timeout
            return turn
        self._start_at_once(turn, turn_timeout)
        return turn

    def _start_at_once(self, turn: Turn, turn_timeout: float | None) -> None:
        self._start(turn)
        try:
            if turn_timeout is not None:
                self.endings.arm_timeout(turn, turn_timeout)
            if self.hooks.active:
                self.tell_started(turn)
        except BaseException as error:
            self.leave(turn, error)
            raise

    def is_nested(self, turn: Turn) -> bool:
        """Tell whether a turn belongs to a running turn of these lanes, which could not end without it."""
        return self._ancestor_of(turn) is not None

    def _ancestor_of(self, turn: Turn) -> Turn | None:
        ancestor = turn._parent
        if ancestor is None:
            return None if turn._chain is None else lender_of(turn)
        while ancestor is not None and (ancestor._owner is not self or ancestor._state is not RUNNING):
            ancestor = ancestor._parent
        return ancestor

    def _stand_in_line(self, turn: Turn, ancestor: Turn | None, policy: Policy) -> None:
        key, table = turn.key, self.table
        chain = chain_of(turn) if turn._parent is not None or turn._chain is not None else []
        closed = cycle(turn, chain)
        if closed is not None:
            raise self._refuse(turn, errors.LaneReentry(key, cycle=closed), "reentry")
        self._require_room_for_principal(turn, ancestor, policy)
        # Who is called from inside a turn stands alone: its caller waits for an answer of its own.
        group = self.group_for(turn, policy) if isinstance(policy, Coalesce) and not chain else None
        if isinstance(policy, Interrupt | Rollback):
            self._take_over(turn, policy)
        elif group is None or not group.members:
            self._require_room(turn, policy)
        turn._wait = waiter = Waiter(turn, ancestor)
        waiter.future = self.loop.create_future()
        if group is not None and isinstance(policy, Coalesce):
            waiter.group = group
            self.await_window(group, policy)
        holder = table.holders.get(key)
        granted = table.queue(waiter)
        if holder is not None and isinstance(policy, Steer):
            self.offer(waiter, holder)
        if isinstance(policy, Enqueue) and policy.hint_after is not None:
            waiter.hinted = waiter.position >= policy.hint_after
        if chain:
            add_nested(turn, chain)
        if not isinstance(policy, Reject) and policy.wait_timeout is not None:
            self.deadlines.add(waiter, policy.wait_timeout)
        if self.hooks.active and self.hooks.wants(TurnQueued):
            self.hooks.emit(TurnQueued(key=key, turn=turn.id, ahead=waiter.position, hint=waiter.hinted))
        self.hand_over(granted)

    def _require_room(self, turn: Turn, policy: Policy) -> None:
        key = turn.key
        held, waiting = key in self.table.holders, self.table.line_length(key)
        room = 0 if isinstance(policy, Reject | Interrupt | Rollback) else policy.max_waiting
        if room is None or waiting < room:
            return
        if not held and not waiting and key not in self.paused:
            raise self._refuse(turn, self._shortage(turn), "capacity")
        if isinstance(policy, Reject):
            raise self._refuse(turn, errors.LaneBusy(key, ahead=waiting + held), "busy")
        raise self._refuse(turn, errors.LaneFull(key, waiting=waiting, max_waiting=room), "full")

    def _shortage(self, turn: Turn) -> errors.CapacityExceeded:
        """Return the error for a turn that lacks nothing but a slot."""
        limits, capacity = self.table.limits, self.table.capacity
        if capacity is not None and not capacity.has_place(principal_of(turn)):
            limit, resource = limits.max_running_per_principal or 0, "max_running_per_principal"
            return errors.PrincipalCapacityExceeded(turn.key, resource=resource, limit=limit)
        return errors.CapacityExceeded(turn.key, resource="max_running", limit=limits.max_running or 0)

    def _require_room_for_principal(self, turn: Turn, ancestor: Turn | None, policy: Policy) -> None:
        principal, limit = principal_of(turn), self.table.limits.max_waiting_per_principal
        if limit is None or principal is None or ancestor is not None or isinstance(policy, Reject):
            return
        waiting = self.table.waiting_of.get(principal, 0)
        if waiting >= limit and isinstance(policy, Interrupt | Rollback):  # whom it supersedes does not count
            line = self.table.lines.get(turn.key, ())
            waiting -= sum(principal_of(waiter.turn) == principal for waiter in line)
        if waiting >= limit:
            resource = "max_waiting_per_principal"
            error = errors.PrincipalCapacityExceeded(turn.key, resource=resource, limit=limit)
            raise self._refuse(turn, error, "capacity")

    def _take_over(self, turn: Turn, policy: Interrupt | Rollback) -> None:
        for earlier in self.table.supersede(turn.key):
            self._dismiss(earlier, "superseded", by=turn)
        holder = self.table.holders.get(turn.key)
        if holder is not None:
            for earlier in self.let_go_of_absorbed(holder):
                self._dismiss(earlier, "superseded", by=turn)
            self.endings.interrupt(holder, by=turn.id, grace=policy.grace)
            if isinstance(policy, Rollback) and not is_over(holder):
                self.debts.setdefault(holder.key, {})[holder] = None

    def is_undone(self, turn: Turn) -> bool:
        """Tell whether what a turn writes is to be taken back."""
        return turn in self.debts.get(turn.key, ()) or (turn._end is not None and turn._end.undone)

    # -- operators

    def pause(self, key: str) -> None:
        """Let no further turn of a key start until `resume`."""
        self.paused.add(key)
        self.look_guarded()
        self.table.pause(key)

    def resume(self, key: str) -> None:
        """Undo `pause`."""
        self.paused.discard(key)
        self.look_guarded()
        self.hand_over(self.table.resume(key))

    def interrupt(self, key: str, *, grace: float) -> bool:
        """Ask the running turn of a key to stop; tell whether there was one that had not been asked before."""
        holder = self.table.holders.get(key)
        return holder is not None and holder.running and self.endings.interrupt(holder, by=None, grace=grace)

    def set_draining(self, draining: bool) -> None:
        """Refuse new turns from now on, and end every wait but of turns nested in a running one; or stop refusing."""
        if not draining:
            self.draining: bool = False
            self.look_guarded()
            return
        if not self.draining:
            self.draining = True
            self.look_guarded()
            if self.hooks.wants(DrainStarted):
                self.hooks.emit(DrainStarted(running=len(self.table.holders), waiting=self.table.waiting))
        for line in list(self.table.lines.values()):
            # From the end, so that nobody moves up to a lane that is free but for a window.
            for turn in reversed([waiter.turn for waiter in line]):
                if not self.is_nested(turn):
                    self.expel(turn, errors.LanesDraining(line.key), "draining")

    async def drained(self, timeout: float | None) -> None:
        """Return when no turn runs here any more, or so many seconds are over."""
        if not self.table.holders or timeout == 0:
            return
        ended = asyncio.Event()
        self.drains.append(ended)
        self.look_guarded()  # the short way out does not look for drains
        try:
            async with asyncio.timeout(timeout):
                await ended.wait()
        except TimeoutError:
            pass
        finally:
            if ended in self.drains:
                self.drains.remove(ended)
            self.look_guarded()

    async def settled(self) -> None:
        """Wait until others who share the lanes can know of the turns that have ended, some seconds at most."""

    async def aclose(self) -> None:
        """Let go of what lanes that others share need."""

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
            replacement = self.wait_failed(turn, caught)
            if replacement is not None:
                raise replacement from caught
            raise
        finally:
            waiter.future = None  # it holds the error, and that the frames it was raised in
        if error is not None:
            raise error

    def begin_carrying(self, turn: Turn) -> None:
        """Take over the messages of a group, or let the lane go: called when nothing else keeps the turn from running.

        Raises:
            BaseException: what `merge` raised.
        """
        waiter = turn._wait
        if not isinstance(waiter, Waiter) or waiter.absorbed is None:
            return
        try:
            self.carry(turn, waiter)
        except BaseException as error:
            replacement = self.leave(turn, error)
            if replacement is not None:
                raise replacement from error
            raise
