"""The steps of one lane, over whatever keeps it: who has it, who stands in line, who comes next.

It is what every engine does, those in other languages included: their suite compares them with this.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from turnlane.engines.base import (
    Answer,
    Ask,
    Carried,
    End,
    Full,
    Granted,
    Interrupted,
    Lost,
    Note,
    Offered,
    Over,
    Queued,
)

__all__ = ("A_MOMENT", "Held", "Lane", "LaneRows", "Place", "Steps")


LENT, TOLD = 1, 2
A_MOMENT = 0.0001  # seconds by which the clock of a timer may be ahead


@dataclass(frozen=True, slots=True)
class Held:
    """Who has a lane: `by`, `grace` and `rollback` are those of the one who asked it to stop, if `asked`.

    `dropped` are messages that were to be part of its turn and had to leave; `lends` tells whether it was granted the
    lane together with others.
    """

    ticket: str
    worker: str
    token: int
    since: float
    owes: bool = False
    asked: bool = False
    by: str = ""
    grace: float = 0.0
    rollback: bool = False
    dropped: tuple[bytes, ...] = ()
    lends: bool = False


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane that is not idle: who has it, whether something is to be taken back first, whether it is paused."""

    held: Held | None = None
    owes: bool = False
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """One ticket in line.

    Attributes:
        ticket: its id.
        worker: whose it is.
        run: names those it will be granted the lane with: they stand side by side.
        tag: what those agree in who may join it; empty if it stands alone.
        closes: until when others may join it.
        since: when it came.
        payload: its message.
        dropped: messages that had to leave for its sake.
        lent: whether its message is part of the turn that has the lane: `LENT` until that has begun to answer it, then
            it may be `TOLD`, and waits for the end of that turn.
        number: its place, lower than that of all who came later.
    """

    ticket: str
    worker: str
    number: int
    run: int
    tag: str
    closes: float
    since: float
    payload: bytes
    dropped: tuple[bytes, ...] = ()
    lent: int = 0


class LaneRows(ABC):
    """What keeps one lane, inside one transaction. A row is there until it is dropped."""

    @abstractmethod
    def lane(self) -> Lane | None:
        """Return it; None where it is idle."""

    @abstractmethod
    def put_lane(self, lane: Lane | None) -> None:
        """Keep it as it is now."""

    @abstractmethod
    def token(self) -> int:
        """Return a token higher than any before, and than the microseconds since the epoch."""

    @abstractmethod
    def first(self) -> Place | None:
        """Return who came first of those in line."""

    @abstractmethod
    def last(self) -> Place | None:
        """Return who came last of those in line."""

    @abstractmethod
    def place(self, ticket: str) -> Place | None:
        """Return where a ticket stands."""

    @abstractmethod
    def places(self, run: int | None = None) -> list[Place]:
        """Return all in line, first come first, or those of one run."""

    @abstractmethod
    def ahead(self, run: int | None = None) -> int:
        """Count the runs in line, or those that stand before a run; those that are lent are none."""

    @abstractmethod
    def put(self, place: Place) -> None:
        """Keep a place."""

    @abstractmethod
    def drop(self, ticket: str) -> None:
        """Take a ticket out of the line."""

    @abstractmethod
    def fate(self, ticket: str) -> Over | None:
        """Return how the wait of a ticket has ended, as long as that is kept, and its lane lives."""

    @abstractmethod
    def put_fate(self, worker: str, over: Over) -> None:
        """Keep how the wait of a ticket has ended, until its worker knows."""

    @abstractmethod
    def is_alive(self, worker: str, ticket: str) -> bool:
        """Tell whether a ticket may have the lane: its worker lives, and has renewed it."""


class Steps:
    """What may happen to one lane.

    Mutable: `notes` (what is to be told once all of it is kept, with the workers it is for).

    Args:
        rows: what keeps the lane.
        key: of the lane.
        worker: who asks.
        now: seconds, by a clock that all workers share.
    """

    __slots__ = ("_key", "_now", "_rows", "_worker", "notes")

    def __init__(self, rows: LaneRows, key: str, worker: str, *, now: float) -> None:
        self._rows = rows
        self._key = key
        self._worker = worker
        self._now = now
        self.notes: list[tuple[str, Note]] = []

    def acquire(self, ask: Ask) -> Answer:
        """See `Engine.acquire`."""
        rows = self._rows
        lane, last = self.promote(), rows.last()
        known = None if lane is None and not ask.again else self._known(ask.ticket, lane or Lane())
        if known is not None:
            return known
        if last is None and (lane is None or (lane.held is None and not lane.paused)):
            return self._granted(self._give(ask.ticket, self._worker, owes=lane is not None and lane.owes))
        number = ask.number or max(int(self._now * 1e6), 0 if last is None else last.number + 1)
        place = Place(ask.ticket, self._worker, number, number, "", self._now, self._now, ask.payload)
        held = None if lane is None else lane.held
        if ask.over:
            self._take_over(ask, lane or Lane())
        elif last is not None and ask.tag and last.tag == ask.tag and not last.lent:
            joined = self._join(ask, last, place)
            if joined is None:
                return Full(len(rows.places(last.run)), together=True)
            place = joined
        elif ask.room is not None and rows.ahead() >= ask.room:
            return Full(rows.ahead() + (held is not None))
        if ask.tag:
            full = ask.most is not None and len(rows.places(place.run)) + 1 >= ask.most
            place = replace(place, tag=ask.tag, closes=self._now + (0.0 if full else ask.window))
        rows.put(place)
        if held is None:
            return self._known(ask.ticket, self.promote() or Lane()) or Queued(0)
        if ask.steer:
            self._tell(held.worker, Offered(self._key, held.ticket, ask.ticket, ask.whom, ask.payload))
        return Queued(rows.ahead(place.run) + 1, place.number)

    def leave(self, ticket: str, *, owes: bool | None, scatter: bool) -> None:
        """See `Engine.leave`."""
        lane = self._rows.lane()
        if lane is not None and lane.held is not None and lane.held.ticket == ticket:
            owes = lane.held.owes if owes is None else owes
            self._promote(self._end(lane, lane.held, owes=owes, scatter=scatter))
            return
        if ticket:
            self._rows.drop(ticket)
        lane = self._bury(lane)
        self._promote(lane, kept=lane)

    def settle(self, ticket: str, ends: Sequence[End]) -> None:
        """See `Engine.settle`."""
        lane = self.promote()
        if lane is None or lane.held is None or lane.held.ticket != ticket:
            return  # it is too late: they stand where they stood
        for end in ends:
            place = self._rows.place(end.ticket)
            if place is None:
                continue
            over = Over(self._key, end.ticket, end.how, ticket, end.payload)
            if end.how == "shared":
                self._rows.put(replace(place, lent=TOLD))
                self._tell(place.worker, over)
            else:
                self._over(place, over)

    def interrupt(self, *, by: str = "", grace: float, rollback: bool = False) -> bool:
        """See `Engine.interrupt`."""
        lane = self._bury(self._rows.lane())
        if lane is None or lane.held is None:
            self._promote(lane, kept=lane)
            return False
        held = lane.held
        asked = replace(held, asked=True, by=by, grace=grace, rollback=held.rollback or rollback)
        self._rows.put_lane(replace(lane, held=asked))
        self._tell(held.worker, Interrupted(self._key, held.ticket, by, grace, rollback))
        return True

    def pause(self, paused: bool) -> None:
        """See `Engine.pause`."""
        self._promote(replace(self._bury(self._rows.lane()) or Lane(), paused=paused))

    def renew(self, ticket: str) -> list[Note]:
        """See `Engine.renew`, of one ticket."""
        lane, over = self.promote(), self._rows.fate(ticket)
        held = None if lane is None else lane.held
        if held is not None and held.ticket == ticket:
            found: list[Note] = [self._granted(held)]
            if held.asked:
                found.append(Interrupted(self._key, ticket, held.by, held.grace, held.rollback))
            return found
        if over is not None:
            return [over]
        return [] if self._rows.place(ticket) is not None else [Lost(self._key, ticket)]

    def promote(self) -> Lane | None:
        """Grant the lane, if it is free, to who is first and alive; return it as it is then."""
        lane = self._bury(self._rows.lane())
        return self._promote(lane, kept=lane)

    def _promote(self, lane: Lane | None, *, kept: Lane | None = None) -> Lane | None:
        """Do that with a lane as it is to be; `kept` is as it is kept, where that is the same."""
        rows = self._rows
        if lane is None:
            return None  # nobody stands in the line of an idle one
        first = None if lane.held is not None or lane.paused else rows.first()
        while first is not None:
            run = rows.places(first.run) if first.tag else [first]
            dead = [place for place in run if not rows.is_alive(place.worker, place.ticket)]
            for place in dead:
                rows.drop(place.ticket)
            run = [place for place in run if place not in dead]
            if run and run[-1].closes > self._now + A_MOMENT:
                break
            if run:
                newest = run[-1]
                rows.drop(newest.ticket)
                for place in run[:-1]:
                    rows.put(replace(place, lent=LENT))
                dropped = tuple(message for place in run for message in place.dropped)
                held = self._give(newest.ticket, newest.worker, owes=lane.owes, dropped=dropped, lends=len(run) > 1)
                self._tell(newest.worker, self._granted(held))
                return Lane(held)
            first = rows.first()
        found = lane if first is not None or lane.held is not None or lane.paused or lane.owes else None
        if found is None or found is not kept:
            rows.put_lane(found)
        return found

    # -- inside

    def _known(self, ticket: str, lane: Lane) -> Answer | None:
        rows = self._rows
        if lane.held is not None and lane.held.ticket == ticket:
            return self._granted(lane.held)
        place = rows.place(ticket)
        if place is None:
            return rows.fate(ticket)
        return Queued(rows.ahead(place.run) + (lane.held is not None), place.number)

    def _give(
        self, ticket: str, worker: str, *, owes: bool, dropped: tuple[bytes, ...] = (), lends: bool = False
    ) -> Held:
        held = Held(ticket, worker, self._rows.token(), self._now, owes, dropped=dropped, lends=lends)
        self._rows.put_lane(Lane(held))
        return held

    def _granted(self, held: Held) -> Granted:
        carried: tuple[Carried, ...] = ()
        if held.lends:
            carried = tuple(Carried(place.ticket, place.payload) for place in self._rows.places() if place.lent)
        return Granted(self._key, held.ticket, held.token, held.owes, carried, held.dropped)

    def _bury(self, lane: Lane | None) -> Lane | None:
        """Take the lane from who has it if that is dead; what it was to take back is the next one's."""
        held = None if lane is None else lane.held
        if lane is None or held is None or self._rows.is_alive(held.worker, held.ticket):
            return lane
        rest = self._end(lane, held, owes=held.owes, scatter=False)
        self._rows.put_lane(rest)
        return rest

    def _end(self, lane: Lane, held: Held, *, owes: bool, scatter: bool) -> Lane:
        """Return the lane without who has it; those who were part of its turn stand where they stood."""
        for place in self._rows.places() if held.lends else ():
            if place.lent and scatter:
                self._rows.put(replace(place, lent=0, tag="", run=place.number))
            elif place.lent:
                self._rows.put(replace(place, lent=0))
        return Lane(None, owes or held.rollback or lane.owes, lane.paused)

    def _take_over(self, ask: Ask, lane: Lane) -> None:
        for place in self._rows.places():
            if place.lent != TOLD:
                self._over(place, Over(self._key, place.ticket, "superseded", ask.ticket))
        if lane.held is not None:
            self.interrupt(by=ask.ticket, grace=ask.grace, rollback=ask.over == "rollback")
        elif ask.over == "rollback":
            self._rows.put_lane(replace(lane, owes=True))

    def _join(self, ask: Ask, last: Place, place: Place) -> Place | None:
        """Return the place of one that joins those at the end of the line; None where there is no room."""
        run = self._rows.places(last.run)
        dropped: tuple[bytes, ...] = ()
        if ask.most is not None and len(run) >= ask.most:
            if ask.overflow == "refuse":
                return None
            oldest = run[0]
            dropped = (*oldest.dropped, oldest.payload)
            self._over(oldest, Over(self._key, oldest.ticket, "superseded", ask.ticket))
        return replace(place, run=last.run, dropped=dropped)

    def _over(self, place: Place, over: Over) -> None:
        self._rows.drop(place.ticket)
        self._rows.put_fate(place.worker, over)
        self._tell(place.worker, over)

    def _tell(self, worker: str, note: Note) -> None:
        self.notes.append((worker, note))
