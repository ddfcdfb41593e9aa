"""The gate of lanes that several processes share: an engine says who has a lane, the turns are those of this process.

A turn stands in the engine's line from its arrival on, with its own ticket: who came first is granted the lane first,
in whichever process. What the engine answers, and what it tells of its own accord, is done here to the turns.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
import logging
import math
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial

from turnlane import errors
from turnlane.begun import Begun
from turnlane.engines.base import Answer, Ask, Engine, Full, Granted, Over, Queued
from turnlane.hooks import TurnQueued
from turnlane.lanes.attachment import Failure, Step, Then
from turnlane.lanes.capacity import principal_of
from turnlane.lanes.chains import add_nested, chain_of, cycle
from turnlane.lanes.endings import is_over
from turnlane.lanes.line import Waiter
from turnlane.lanes.shared_messages import told
from turnlane.lanes.shared_notes import SharedNotes
from turnlane.lanes.standing import Standing, ask_of
from turnlane.policies import Enqueue, Policy, Reject, Steer
from turnlane.turns.chain import brought_items, sealed_with
from turnlane.turns.turn import Turn, TurnState

__all__ = ("SharedGate",)

logger: logging.Logger = logging.getLogger("turnlane.lanes")

WAITING, ENDED = TurnState.WAITING, TurnState.ENDED

PATIENCE = 2.0  # seconds for which an arriving turn asks an engine again that does not answer
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0


class SharedGate(SharedNotes):
    """The lanes of this process that are shared with others.

    Mutable and arguments: see `SharedMessages`.
    """

    @property
    def chain_secret(self) -> bytes:
        """The secret all processes share, so that each finds out who calls it."""
        return self._attachment.secret or super().chain_secret

    async def settled(self) -> None:
        """Wait until the engine was told of the turns that have ended."""
        await self._attachment.settled()

    async def aclose(self) -> None:
        """Close the engine, as soon as no turn of this process runs any more."""
        self._closes = bool(self.table.holders)
        if not self._closes:
            await self._attachment.aclose()

    # -- arriving

    def _stand_in_line(self, turn: Turn, ancestor: Turn | None, policy: Policy) -> None:
        is_called = turn._parent is not None or turn._chain is not None
        chain = chain_of(turn) if is_called else []
        closed = cycle(turn, chain) if chain else None
        if closed is not None:
            raise self._refuse(turn, errors.LaneReentry(turn.key, cycle=closed), "reentry")
        if self.table.limits.any:
            self._require_room_for_principal(turn, ancestor, policy)
            self._require_slot(turn, ancestor, policy)
        # Of who was called from inside another turn the caller waits for an answer of its own.
        alone = is_called and bool(chain or brought_items(turn))
        engine = None if alone else self._attachment.ready(turn.key, self._loop)
        if engine is None and self._attachment.attach(self.loop):
            self.standings.clear()
        self._closes = self._closes and self.draining  # what runs yet may need others to come to its end
        ask = ask_of(turn, policy, worker=self._attachment.worker, alone=alone)
        standing = Standing(turn, policy, ask)
        self._attachment.renew_from_now_on()
        if engine is not None and self._is_started_at_once(standing, engine):
            return
        standing.waiter = turn._wait = waiter = Waiter(turn, ancestor)
        waiter.future = self.loop.create_future()
        self.hand_over(self.table.queue(waiter))  # who lacked nothing but a slot may be lent the one of this chain
        if chain:
            add_nested(turn, chain)
        self.standings[ask.ticket] = standing
        try:
            self._come(standing)
        except BaseException as error:  # of a listener, which may not keep a lane from going on
            self.leave(turn, error)
            raise
        if turn.running and waiter.absorbed is None:
            turn._wait = None  # it has not waited
        elif turn._state is WAITING and not isinstance(policy, Reject) and policy.wait_timeout is not None:
            self.deadlines.add(waiter, policy.wait_timeout)

    def _require_slot(self, turn: Turn, ancestor: Turn | None, policy: Policy) -> None:
        """Refuse a turn that would wait for nothing but a running slot of this process, and will not wait."""
        waits = not (isinstance(policy, Reject) or (isinstance(policy, Enqueue | Steer) and policy.max_waiting == 0))
        capacity, key = self.table.capacity, turn.key
        if waits or capacity is None or key in self.table.holders or key in self.table.lines:
            return
        if capacity.slot_of(ancestor) is None and not (capacity.has_slot and capacity.has_place(principal_of(turn))):
            raise self._refuse(turn, self._shortage(turn), "capacity")

    def _come(self, standing: Standing) -> None:
        turn, first, standing.first = standing.turn, standing.first, None
        if first is not None:
            standing.asked_at = turn._started  # when it arrived: its lease may run since before this line
        if first is not None and not isinstance(first, Begun):
            self._answered(standing, first)
            return
        self._attachment.ask(
            turn.key,
            "acquire a lane",
            partial(self._acquire, standing),
            partial(self._answered, standing),
            patience=PATIENCE,
            needed=lambda: turn._state is WAITING and not standing.over,
            begun=first,
        )

    def _acquire(self, standing: Standing, engine: Engine) -> Awaitable[object]:
        turn, ask = standing.turn, standing.ask
        if standing.asked_at is not None:
            ask = replace(ask, again=True)
        standing.asked_at = self._monotonic()
        items = brought_items(turn)
        return self._acquire_called(items, turn.key, ask, engine) if items else engine.acquire(turn.key, ask)

    async def _acquire_called(self, items: set[str], key: str, ask: Ask, engine: Engine) -> Answer | errors.LaneReentry:
        """Come to a lane, unless whoever has it waits for this turn: then it does so all the while."""
        callers = sealed_with(self.chain_secret, items)
        for view in await engine.look(key) if callers else ():
            if view.holder is not None and view.holder.ticket in callers:
                return errors.LaneReentry(key, cycle=(key,))
        return await engine.acquire(key, ask)

    def _answered(self, standing: Standing, answer: Answer | errors.LaneReentry | Failure | None) -> None:
        turn, waiter, key = standing.turn, standing.waiter, standing.turn.key
        match answer:
            case Granted():
                self._heard_of_grant(standing, answer)
            case Queued(ahead=ahead, number=number, look_after=look_after):
                standing.known, standing.number = True, number
                self._queued(standing, ahead, look_after)
            case Full(ahead=ahead, together=together):
                standing.over = True
                if isinstance(standing.policy, Reject):
                    self.expel(turn, errors.LaneBusy(key, ahead=ahead), "busy")
                else:
                    most = ahead if together else standing.ask.room or 0
                    waiting = ahead if together else most
                    self.expel(turn, errors.LaneFull(key, waiting=waiting, max_waiting=most), "full")
            case Over():
                self._over(answer)
            case errors.LaneReentry():
                self.expel(turn, answer, "reentry")
            case errors.EngineUnavailable():
                standing.over = True
                self.expel(turn, answer, "engine_unavailable")
            case errors.OutcomeUnknown():  # whatever was done is undone by leaving, which is on its way
                where, operation, reason = answer.where, answer.operation, answer.reason
                gone = errors.EngineUnavailable(where, operation=operation, reason=reason, key=key)
                self.expel(turn, gone, "engine_unavailable")
            case None:
                pass  # it has left already
        waiter.hinted = waiter.hinted or self._is_hinted(standing)

    def _heard_of_grant(self, standing: Standing, answer: Granted) -> None:
        standing.known = True
        if not self._attachment.may_have_ended(standing.asked_at or 0.0):  # else it is told again, if it still is so
            self._granted(answer)

    def _queued(self, standing: Standing, ahead: int, look_after: float | None) -> None:
        turn, waiter = standing.turn, standing.waiter
        if turn._state is not WAITING:
            return
        waiter.position = ahead
        waiter.hinted = self._is_hinted(standing)
        if self.hooks.active and self.hooks.wants(TurnQueued):
            self.hooks.emit(TurnQueued(key=turn.key, turn=turn.id, ahead=ahead, hint=waiter.hinted))
        if standing.ask.tag and standing.ask.window:
            self.loop.call_later(standing.ask.window, self._look_again, standing)
        if look_after is not None:
            self.loop.call_later(look_after, self._look_again, standing)

    def _is_hinted(self, standing: Standing) -> bool:
        policy = standing.policy
        hint_after = policy.hint_after if isinstance(policy, Enqueue) else None
        return hint_after is not None and standing.waiter.position >= hint_after

    def _look_again(self, standing: Standing) -> None:
        """Have the lane granted, if it is free by now: a window has closed, or a lease has ended."""
        if standing.turn._state is WAITING and not standing.over:
            self._leave_line(standing.turn.key, "")

    # -- leaving

    def _take_out(self, waiter: Waiter) -> None:
        turn = waiter.turn
        self._forget_wait(waiter)
        self.table.withdraw(waiter)
        self.hand_over(self.table.promote(turn.key))
        standing = self.standings.pop(turn.id, None)
        if standing is not None and not standing.over:
            self._leave_line(turn.key, turn.id, owes=None)  # it may have been granted the lane meanwhile

    def leave(self, turn: Turn, exc: BaseException | None) -> BaseException | None:
        """Let the lane go here, and have the engine told, behind what it was told before."""
        if (
            exc is None
            and turn._end is None
            and turn._talk is None
            and not self.hooks.active
            and self._ends_alone(turn)
        ):
            self._leave_at_once(turn)
            return None
        replacement = super().leave(turn, exc)
        if turn._state is not ENDED:
            return replacement
        standing = self.standings.pop(turn.id, None)
        if standing is not None:
            granted, end = standing.granted, turn._end
            owes = granted is not None and granted.owes and end is not None and end.takes_back
            self._leave_line(turn.key, turn.id, owes=owes, scatter=standing.scatter)
        return replacement

    def _leave_line(
        self, key: str, ticket: str, *, owes: bool | None = False, scatter: bool = False, begun: Begun | None = None
    ) -> None:
        """Tell the engine. If it does not answer, again and again, at most for a lease; nobody waits behind that."""
        self._leave(key, ticket, owes, scatter, pause=FIRST_PAUSE, until=math.inf, begun=begun)

    def _leave(
        self,
        key: str,
        ticket: str,
        owes: bool | None,
        scatter: bool,
        *,
        pause: float,
        until: float,
        begun: Begun | None = None,
    ) -> None:
        def heard(failure: Failure | None) -> None:
            if failure is not None and ticket:
                patience = self.engine.lease or math.inf  # then the lane is free all the same, if ever it is
                give_up = min(until, self._monotonic() + patience)
                if self._monotonic() < give_up:
                    following = min(2 * pause, LONGEST_PAUSE)
                    again = partial(self._leave, key, ticket, owes, scatter, pause=following, until=give_up)
                    self.loop.call_later(pause, again)
                else:
                    logger.warning("lane_not_left turn=%s error=%s", ticket, failure)
            self._close_if_idle()

        leave = partial(_left, key, ticket, owes, scatter)
        self._attachment.ask(key, "leave a lane", leave, heard, patience=0.0, begun=begun, owed=True)

    def _close_if_idle(self) -> None:
        if self._closes and not self.table.holders:
            self._closes = False
            closing = self.loop.create_task(self._attachment.aclose())
            closing.add_done_callback(_heard)

    # -- operators

    def pause(self, key: str) -> None:
        """Let no further turn of a key start, in any process; any may resume it."""
        self.order(key, "pause a lane", lambda engine: engine.pause(key, True))

    def resume(self, key: str) -> None:
        """Undo `pause`, whichever process it was."""
        self.order(key, "resume a lane", lambda engine: engine.pause(key, False))

    def interrupt(self, key: str, *, grace: float) -> bool:
        """Ask the running turn of a key to stop, in whatever process; tell whether it is one of this, not asked yet."""
        holder = self.table.holders.get(key)
        is_here = holder is not None and not is_over(holder) and (holder._end is None or holder._end.kind is None)
        self.order(key, "interrupt a lane", lambda engine: engine.interrupt(key, grace=grace))
        return is_here

    def order(self, key: str, operation: str, step: Step, then: Then | None = None) -> None:
        """Ask the engine for what no turn asks for; `then` hears of it as in `Attachment.ask`, else the log does.

        Raises:
            NotConfigured: no loop runs here, or these lanes are open in another.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise errors.NotConfigured(f"to {operation} that others share needs the event loop it is used in") from None
        if loop is not self._loop:
            self.bind(loop)
        self._attachment.attach(loop)
        self._attachment.ask(key, operation, step, then or partial(told, operation), patience=PATIENCE)


def _left(key: str, ticket: str, owes: bool | None, scatter: bool, engine: Engine) -> Awaitable[None]:
    return engine.leave(key, ticket, owes=owes, scatter=scatter)


def _heard(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.warning("lanes_not_closed", exc_info=task.exception())
