"""The gate of lanes that several processes share: an engine says who has a lane, the turns are those of this process.

A turn stands in the engine's line from its arrival on, with its own ticket: who came first is granted the lane first,
in whichever process. What the engine answers, and what it tells of its own accord, is done here to the turns.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from turnlane import errors
from turnlane.clock import Clock
from turnlane.engines.base import Answer, End, Engine, Full, Granted, Interrupted, Lost, Note, Offered, Over, Queued
from turnlane.hooks import Hooks, TurnCoalescing, TurnQueued, TurnSteering
from turnlane.lanes.attachment import Attachment, Failure, Step
from turnlane.lanes.capacity import principal_of
from turnlane.lanes.chains import add_nested, chain_of, cycle
from turnlane.lanes.endings import is_over
from turnlane.lanes.gate import Gate
from turnlane.lanes.limits import Limits
from turnlane.lanes.line import Waiter
from turnlane.lanes.shared_table import SharedTable
from turnlane.lanes.standing import Standing, ask_of, whom_of
from turnlane.lanes.table import Table
from turnlane.lanes.wire import Unportable, decoded, encoded
from turnlane.policies import Coalesce, Enqueue, Policy, Reject, Steer
from turnlane.turns.talk import Steered, Talk
from turnlane.turns.turn import Ending, Turn, TurnState

__all__ = ("SharedGate",)

logger: logging.Logger = logging.getLogger("turnlane.lanes")

WAITING, RUNNING, ENDED = TurnState.WAITING, TurnState.RUNNING, TurnState.ENDED

PATIENCE = 2.0  # seconds for which an arriving turn asks an engine again that does not answer
PATIENCE_TO_LEAVE = 60.0  # seconds after which a lane is left to whoever finds its worker dead, where no lease runs
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0


class SharedGate(Gate):
    """The lanes of this process that are shared with others.

    Mutable, beside what `Gate` has: `standings` (by ticket, the turns the engine knows), `_closes` (from `aclose` until
    the last turn has left).

    Args:
        make_engine: makes one that is not open.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        hooks: Hooks,
        clock: Clock,
        slow_after: float | None,
        make_engine: Callable[[], Engine],
    ) -> None:
        super().__init__(limits=limits, hooks=hooks, clock=clock, slow_after=slow_after)
        self.table: Table = SharedTable(limits)
        self.look_guarded()
        self.standings: dict[str, Standing] = {}
        self._attachment = Attachment(make_engine, of=self, tell=self.tell, monotonic=clock.monotonic)
        self._closes = False

    def _is_guarded(self) -> bool:
        return True

    @property
    def engine(self) -> Engine:
        """The engine, which may not be open yet."""
        return self._attachment.engine

    async def aclose(self) -> None:
        """Close the engine, as soon as no turn of this process runs any more."""
        self._closes = bool(self.table.holders)
        if not self._closes:
            await self._attachment.aclose()

    # -- arriving

    def _stand_in_line(self, turn: Turn, ancestor: Turn | None, policy: Policy) -> None:
        chain = chain_of(turn) if turn._parent is not None or turn._chain is not None else []
        closed = cycle(turn, chain)
        if closed is not None:
            raise self._refuse(turn, errors.LaneReentry(turn.key, cycle=closed), "reentry")
        self._require_room_for_principal(turn, ancestor, policy)
        self._require_slot(turn, ancestor, policy)
        if self._attachment.attach(self.loop):
            self.standings = {}
        self._closes = False
        turn._wait = waiter = Waiter(turn, ancestor)
        waiter.future = self.loop.create_future()
        self.hand_over(self.table.queue(waiter))  # who lacked nothing but a slot may be lent the one of this chain
        if chain:
            add_nested(turn, chain)
        standing = Standing(
            turn, waiter, policy, ask_of(turn, policy, worker=self._attachment.worker, alone=bool(chain))
        )
        self.standings[turn.id] = standing
        self._attachment.renew_from_now_on()
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
        turn, ask = standing.turn, standing.ask
        self._attachment.ask(
            turn.key,
            "acquire a lane",
            lambda engine: engine.acquire(turn.key, ask),
            partial(self._answered, standing),
            patience=PATIENCE,
            needed=lambda: turn._state is WAITING and not standing.over,
        )

    def _answered(self, standing: Standing, answer: Answer | Failure | None) -> None:
        turn, waiter, key = standing.turn, standing.waiter, standing.turn.key
        match answer:
            case Granted():
                self._granted(answer)
            case Queued(ahead=ahead, number=number, look_after=look_after):
                standing.number = number
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

    # -- what the engine tells

    def tell(self, note: Note) -> None:
        """Do what the engine tells to the turn it is about."""
        match note:
            case Granted():
                self._granted(note)
            case Over():
                self._over(note)
            case Interrupted():
                self._interrupted(note)
            case Offered():
                self._offered(note)
            case Lost():
                self._lost(note)

    def _granted(self, note: Granted) -> None:
        standing = self.standings.get(note.ticket)
        if standing is None or standing.turn._state is not WAITING or standing.granted is not None:
            return  # it has left, which passes the lane on; or it knows
        standing.granted, waiter = note, standing.waiter
        if note.carried or note.dropped:
            waiter.absorbed = []  # so that `begin_carrying` is called when nothing else keeps it from running
        self.hand_over(cast("SharedTable", self.table).grant(waiter))

    def _start(self, turn: Turn) -> None:
        super()._start(turn)
        granted = self.standings[turn.id].granted
        if granted is None:
            raise RuntimeError(f"{turn} starts and was not granted its lane")
        turn.token = granted.token
        if granted.owes:
            turn._end = turn._end or Ending()
            turn._end.takes_back = True

    def _over(self, note: Over) -> None:
        standing = self.standings.get(note.ticket)
        if standing is None or standing.turn._state is not WAITING:
            return
        turn, waiter = standing.turn, standing.waiter
        if turn._talk is not None and note.how != "superseded":
            turn._talk.taken = True
        if note.how == "shared":
            self._forget_wait(waiter)  # what it waits for now is a turn that runs
            return
        standing.over = True
        if note.how == "superseded":
            self.expel(
                turn, errors.TurnInterrupted(turn.key, turn=turn.id, into=note.into, running=False), "superseded"
            )
            return
        if note.how == "coalesced":
            self.expel(
                turn,
                errors.TurnCoalesced(
                    turn.key, turn=turn.id, into=note.into, result=standing.result or _readable(note.payload)
                ),
                "coalesced",
            )
            if self.hooks.active and self.hooks.wants(TurnCoalescing):
                self.hooks.emit(TurnCoalescing(key=turn.key, turn=note.ticket, into=note.into))
            return
        self.expel(turn, errors.TurnSteered(turn.key, turn=turn.id, into=note.into), "steered")
        if self.hooks.active and self.hooks.wants(TurnSteering):
            self.hooks.emit(TurnSteering(key=turn.key, turn=note.ticket, into=note.into))

    def _interrupted(self, note: Interrupted) -> None:
        standing = self.standings.get(note.ticket)
        if standing is None or not standing.turn.running:
            return
        turn = standing.turn
        self.endings.interrupt(turn, by=note.by or None, grace=note.grace)
        if note.rollback and turn._end is not None and not turn._end.over:
            turn._end.undone = True

    def _offered(self, note: Offered) -> None:
        standing, sender = self.standings.get(note.ticket), self.standings.get(note.by)
        if standing is None or not standing.turn.running or standing.turn.interrupted:
            return
        holder = standing.turn
        if note.whom != whom_of(holder, worker=self._attachment.worker):
            return
        if sender is not None and sender.turn._talk is not None:
            message = sender.turn._talk.message
        else:
            message = _readable(note.payload)
        if message is None:
            return  # only the other process can read it: it becomes a turn of its own
        waits = partial(self._waits, note.by, holder)
        holder.steering.offer(Steered(message, note.by, waits=waits, finish=partial(self._answers, note.by, holder)))

    def _waits(self, ticket: str, holder: Turn) -> bool:
        """Tell whether the sender of an offered message may still wait; of another process, as far as is known here."""
        sender = self.standings.get(ticket)
        return holder.running and (
            not ticket.startswith(self.turn_id_prefix) or (sender is not None and sender.turn._state is WAITING)
        )

    def _answers(self, ticket: str, holder: Turn) -> bool:
        if not self._waits(ticket, holder):
            return False
        self._settle(holder, [End(ticket, "steered")])
        return True

    def _lost(self, note: Lost) -> None:
        standing = self.standings.get(note.ticket)
        if standing is None or standing.over:
            return
        if standing.turn.running:
            self.lose(standing)
        elif standing.turn._state is WAITING:  # it comes again, with the number it had
            standing.granted, standing.ask = None, replace(standing.ask, number=standing.number)
            self._come(standing)

    def lose(self, standing: Standing) -> None:
        """Cancel a running turn: others may have its lane."""
        turn = standing.turn
        if turn.running and not turn.lost:
            logger.warning("lane_lost turn=%s engine=%s", turn.id, self.engine.where)
            self.endings.lose(turn, self.engine.where)

    # -- leaving

    def _take_out(self, waiter: Waiter) -> None:
        turn = waiter.turn
        self._forget_wait(waiter)
        self.table.withdraw(waiter)
        self.hand_over(self.table.promote(turn.key))
        standing = self.standings.pop(turn.id, None)
        if standing is not None and not standing.over:
            self._leave_line(turn.key, turn.id)

    def leave(self, turn: Turn, exc: BaseException | None) -> BaseException | None:
        """Let the lane go here, and have the engine told, behind what it was told before."""
        replacement = super().leave(turn, exc)
        if turn._state is not ENDED:
            return replacement
        standing = self.standings.pop(turn.id, None)
        if standing is not None:
            granted, end = standing.granted, turn._end
            owes = granted is not None and granted.owes and end is not None and end.takes_back
            self._leave_line(turn.key, turn.id, owes=owes, scatter=standing.scatter)
        return replacement

    def _leave_line(self, key: str, ticket: str, *, owes: bool = False, scatter: bool = False) -> None:
        """Tell the engine. Where it does not answer, again and again, and nobody waits behind that."""
        self._leave(key, ticket, owes, scatter, pause=FIRST_PAUSE, until=math.inf)

    def _leave(self, key: str, ticket: str, owes: bool, scatter: bool, *, pause: float, until: float) -> None:
        def heard(failure: Failure | None) -> None:
            if failure is not None and ticket:
                patience = self.engine.lease or PATIENCE_TO_LEAVE
                give_up = min(until, self._monotonic() + patience)
                if self._monotonic() < give_up:
                    following = min(2 * pause, LONGEST_PAUSE)
                    again = partial(self._leave, key, ticket, owes, scatter, pause=following, until=give_up)
                    self.loop.call_later(pause, again)
                else:
                    logger.warning("lane_not_left turn=%s error=%s", ticket, failure)
            self._close_if_idle()

        leave = partial(_left, key, ticket, owes, scatter)
        self._attachment.ask(key, "leave a lane", leave, heard, patience=0.0)

    def _close_if_idle(self) -> None:
        if self._closes and not self.table.holders:
            self._closes = False
            closing = self.loop.create_task(self._attachment.aclose())
            closing.add_done_callback(_heard)

    # -- messages of others

    def carry(self, turn: Turn, waiter: Waiter) -> None:
        """Take over the messages of those whose tickets were granted the lane with this one."""
        standing, talk, policy = self.standings.get(turn.id), turn._talk, None
        if standing is not None:
            policy = standing.policy
        if standing is None or standing.granted is None or talk is None or not isinstance(policy, Coalesce):
            return
        talk.dropped = tuple(_readable(payload) for payload in standing.granted.dropped)
        waiter.absorbed = None
        carried = standing.granted.carried
        if not carried:
            return
        messages = (*(self._message_of(each.ticket, each.payload) for each in carried), *talk.messages)
        try:
            message = talk.message if policy.merge is None else policy.merge(messages)
            if policy.merge is not None and talk.require is not None:
                talk.require(message)
        except BaseException:
            standing.scatter = True
            raise
        talk.messages, talk.message, talk.told, talk.shares = messages, message, True, policy.share_result
        if policy.share_result:
            standing.carried = carried
        self._settle(turn, [End(each.ticket, "shared" if policy.share_result else "coalesced") for each in carried])

    def _message_of(self, ticket: str, payload: bytes) -> object:
        standing = self.standings.get(ticket)
        if standing is not None and standing.turn._talk is not None:
            return standing.turn._talk.message
        return _readable(payload)

    def end_talk(self, turn: Turn, talk: Talk) -> None:
        """Tell those whose messages a turn took, or was offered, that it has ended."""
        if talk.steering is not None:
            talk.steering.close()
        standing = self.standings.get(turn.id)
        if standing is None or not standing.carried:
            return
        try:
            payload = b"" if talk.result is None else encoded(talk.result)
        except Unportable as error:
            payload = b""
            if any(each.ticket not in self.standings for each in standing.carried):
                logger.warning("result_not_shared turn=%s: %s", turn.id, error)
        for each in standing.carried:
            if each.ticket in self.standings:
                self.standings[each.ticket].result = talk.result  # as it is, where it need not travel
        self._settle(turn, [End(each.ticket, "coalesced", payload) for each in standing.carried])

    def let_go_of_absorbed(self, turn: Turn) -> list[Waiter]:
        """Return nobody: what was carried stands in the engine's line."""
        return []

    def _settle(self, turn: Turn, ends: Sequence[End]) -> None:
        """Tell the senders of messages; where the engine does not answer, they become turns of their own."""
        self._attachment.ask(
            turn.key,
            "settle messages",
            lambda engine: engine.settle(turn.key, turn.id, ends),
            partial(_told, turn.id),
            patience=PATIENCE,
        )

    # -- operators

    def pause(self, key: str) -> None:
        """Let no further turn of a key start, in any process."""
        super().pause(key)
        self._order(key, "pause a lane", lambda engine: engine.pause(key, True))

    def resume(self, key: str) -> None:
        """Undo `pause`."""
        super().resume(key)
        self._order(key, "resume a lane", lambda engine: engine.pause(key, False))

    def interrupt(self, key: str, *, grace: float) -> bool:
        """Ask the running turn of a key to stop, in whatever process; tell whether it is one of this, not asked yet."""
        holder = self.table.holders.get(key)
        is_here = holder is not None and not is_over(holder) and (holder._end is None or holder._end.kind is None)
        self._order(key, "interrupt a lane", lambda engine: engine.interrupt(key, grace=grace))
        return is_here

    def _order(self, key: str, operation: str, step: Step) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise errors.NotConfigured(f"to {operation} that others share needs the event loop it is used in") from None
        if loop is not self._loop:
            self.bind(loop)
        self._attachment.attach(loop)
        self._attachment.ask(key, operation, step, partial(_told, operation), patience=PATIENCE)


def _left(key: str, ticket: str, owes: bool, scatter: bool, engine: Engine) -> Awaitable[None]:
    return engine.leave(key, ticket, owes=owes, scatter=scatter)


def _told(what: str, failure: object) -> None:
    if isinstance(failure, Exception):
        logger.warning("engine_not_told of=%s error=%s", what, failure)


def _readable(payload: bytes) -> object:
    try:
        return decoded(payload) if payload else None
    except Unportable:
        return None


def _heard(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.warning("lanes_not_closed", exc_info=task.exception())
