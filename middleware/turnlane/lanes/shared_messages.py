"""What becomes of the messages of turns whose lanes are shared: carried by others, or offered to them.

Messages of this process are handed on as they are; those of others travel through the engine, as far as they can.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

from turnlane.clock import Clock
from turnlane.engines.base import End, Engine, Offered, Told
from turnlane.hooks import Hooks
from turnlane.lanes.attachment import Attachment
from turnlane.lanes.gate import Gate
from turnlane.lanes.limits import Limits
from turnlane.lanes.line import Waiter
from turnlane.lanes.shared_table import SharedTable
from turnlane.lanes.standing import Standing, whom_of
from turnlane.lanes.table import Table
from turnlane.lanes.wire import Unportable, decoded, encoded
from turnlane.policies import Coalesce
from turnlane.turns.talk import Steered, Talk
from turnlane.turns.turn import Turn, TurnState

__all__ = ("SharedMessages", "readable", "told")

logger: logging.Logger = logging.getLogger("turnlane.lanes")

WAITING = TurnState.WAITING

PATIENCE = 2.0  # seconds for which an engine is asked again that does not answer


class SharedMessages(Gate):
    """The part of the gate of shared lanes that is about messages; see `SharedGate`.

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

    @abstractmethod
    def tell(self, note: Told) -> None:
        """Do what the engine tells."""

    @abstractmethod
    def lose(self, standing: Standing) -> None:
        """Cancel a running turn: others may have its lane."""

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
            message = readable(note.payload)
        if message is None:
            return  # only the other process can read it: it becomes a turn of its own
        waits = partial(self._waits, note.by, holder)
        holder.steering.offer(Steered(message, note.by, waits=waits, finish=partial(self._answers, note.by, holder)))

    def _waits(self, ticket: str, holder: Turn) -> bool:
        """Tell whether the sender of an offered message may still wait, and its turn take it."""
        return holder.running and not holder.lost and self._may_wait(ticket)

    def _may_wait(self, ticket: str) -> bool:
        """Tell whether the sender of a message may still wait; who is of this process and does not has left."""
        sender = self.standings.get(ticket)
        return not ticket.startswith(self.turn_id_prefix) or (sender is not None and sender.turn._state is WAITING)

    def _answers(self, ticket: str, holder: Turn) -> bool:
        if not self._waits(ticket, holder):
            return False
        self._settle(holder, [End(ticket, "steered")])
        return True

    def carry(self, turn: Turn, waiter: Waiter) -> None:
        """Take over the messages of those whose tickets were granted the lane with this one."""
        standing, talk, policy = self.standings.get(turn.id), turn._talk, None
        if standing is not None:
            policy = standing.policy
        if standing is None or standing.granted is None or talk is None or not isinstance(policy, Coalesce):
            return
        talk.dropped = tuple(readable(payload) for payload in standing.granted.dropped)
        waiter.absorbed = None
        carried = tuple(each for each in standing.granted.carried if self._may_wait(each.ticket))
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
        return readable(payload)

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
            partial(told, turn.id),
            patience=PATIENCE,
        )


def told(what: str, failure: object) -> None:
    """Log that the engine could not be told of something."""
    if isinstance(failure, Exception):
        logger.warning("engine_not_told of=%s error=%s", what, failure)


def readable(payload: bytes) -> object:
    """Return a message that has travelled; None where there is none, or nobody here can read it."""
    try:
        return decoded(payload) if payload else None
    except Unportable:
        return None
