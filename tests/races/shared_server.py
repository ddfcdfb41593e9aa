"""What several workers share in these runs: lanes in memory that may be leased, die with a worker, and lose their data.

It is what an engine keeps on its server. How steps and notes get there and back is `shared_network`.
"""

# pyright: reportPrivateUsage=false

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from turnlane.clock import Clock
from turnlane.engines import Alive, Answer, Ask, End, Full, Lost, Note
from turnlane.engines.lane import Held, Lane, Steps
from turnlane.engines.memory import MemoryLanes, _Rows

__all__ = ("Server",)

A_MOMENT = 0.001  # seconds that it takes a server to be there again, by its own clock

T = TypeVar("T")


class ServerClock(Clock):
    """A clock that is ahead of another. Mutable: `ahead`, in seconds."""

    __slots__ = ("_clock", "ahead")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ahead = 0.0

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return self._clock.wall_ns() + round(self.ahead * 1e9)

    def monotonic(self) -> float:
        """Seconds from an arbitrary point."""
        return self._clock.monotonic() + self.ahead


class Server:
    """The lanes of all workers, and what the run wants to know of them.

    A worker is dead when it is closed or was killed; where there are leases each ticket lives for one, from its last
    `acquire` or `renew` on. After a loss nothing is granted for a lease: who has a lane says so by its token, who waits
    comes again with its number. A ticket that has left never comes back.

    Mutable: all of it. `arrivals` are the tickets of each key in the order in which they first came, `disorder` tells
    which came before another that its worker had asked for earlier. `displaced` are those that may start later than
    others who came behind them, `numbered` those whose worker was told its place, `missed` those of them that had one
    when data were lost; `is_late` is true while a request is heard that was held up. `granted_at` and `asked_at` tell
    when a ticket was granted its lane, and asked to stop, `lent` whose message was part of another's grant.

    Args:
        clock: tells the time.
        lease: seconds; None where the death of a worker is known at once.
        post: gives a note to its worker.
        steps: what may happen to a lane.
    """

    def __init__(
        self,
        clock: Clock,
        lease: float | None,
        post: Callable[[str, Note], None],
        steps: type[Steps] = Steps,
    ) -> None:
        self.clock = ServerClock(clock)
        self.lease = lease
        self.shared = MemoryLanes()
        self.workers: set[str] = set()
        self.alive: dict[str, tuple[str, float]] = {}
        self.gone: set[str] = set()
        self.paused: set[str] = set()
        self.recovers = 0.0
        self.losses = 0
        self.arrivals: dict[str, list[str]] = {}
        self.displaced: set[str] = set()
        self.missed: set[str] = set()
        self.numbered: set[str] = set()
        self.granted_at: dict[str, float] = {}
        self.asked_at: dict[str, float] = {}
        self.lent: set[str] = set()
        self.disorder: list[str] = []
        self.is_late = False
        self._last: dict[tuple[str, str], int] = {}
        self._post = post
        self._steps = steps

    @property
    def recovering(self) -> bool:
        """Whether nothing is granted, because data were lost."""
        return self.clock.monotonic() < self.recovers

    @property
    def keys(self) -> list[str]:
        """The lanes that live now."""
        return sorted(self.shared.lanes.keys() | self.shared.lines.keys())

    # -- the steps

    def acquire(self, worker: str, key: str, ask: Ask) -> Answer:
        """See `Engine.acquire`."""
        if ask.ticket in self.gone:
            fate = self.shared.fates.get(ask.ticket)
            return Full(0) if fate is None else fate[1]
        self._touch(worker, ask.ticket)
        arrived = self.arrivals.setdefault(key, [])
        if ask.ticket not in arrived:
            self._check_order(worker, key, ask.ticket)
            arrived.append(ask.ticket)
        if self.is_late:
            self.missed.discard(ask.ticket)  # a request that was held up brings it to the end of the line
        if self.recovering:
            self.displaced -= self.missed & {ask.ticket}
        answer = self._do(worker, key, lambda steps: steps.acquire(ask))
        if isinstance(answer, Full):
            self.gone.add(ask.ticket)
        return answer

    def leave(self, worker: str, key: str, ticket: str, *, owes: bool | None, scatter: bool) -> None:
        """See `Engine.leave`."""
        self._do(worker, key, lambda steps: steps.leave(ticket, owes=owes, scatter=scatter))
        if ticket:
            self.gone.add(ticket)
            self.alive.pop(ticket, None)

    def settle(self, worker: str, key: str, ticket: str, ends: Iterable[End]) -> None:
        """See `Engine.settle`."""
        self._do(worker, key, lambda steps: steps.settle(ticket, list(ends)))

    def interrupt(self, worker: str, key: str, *, grace: float) -> bool:
        """See `Engine.interrupt`."""
        return self._do(worker, key, lambda steps: steps.interrupt(grace=grace))

    def pause(self, worker: str, key: str, *, paused: bool) -> None:
        """See `Engine.pause`."""
        (self.paused.add if paused else self.paused.discard)(key)
        self._do(worker, key, lambda steps: steps.pause(paused or self.recovering))

    def renew(self, worker: str, tickets: Iterable[Alive]) -> list[Note]:
        """See `Engine.renew`."""
        found: list[Note] = []
        known = list(tickets)
        for alive in known:
            if self._knows(alive.key, alive.ticket):
                self._touch(worker, alive.ticket)
        for alive in known:
            if alive.token:
                self._assert_again(worker, alive)
            found += self._do(worker, alive.key, lambda steps, ticket=alive.ticket: steps.renew(ticket))  # type: ignore[misc]
        return found

    def poke(self, key: str) -> None:
        """Have a lane granted, if it is free."""
        self._do("", key, lambda steps: steps.promote())

    # -- what happens to it

    def join(self, worker: str) -> None:
        """Know a worker."""
        self.workers.add(worker)

    def bury(self, worker: str) -> None:
        """Take the tickets of a worker that is closed, or known to be dead, out of their lanes."""
        if worker not in self.workers:
            return
        self.workers.discard(worker)
        for ticket, (whose, _) in list(self.alive.items()):
            if whose == worker:
                del self.alive[ticket]
                self.gone.add(ticket)
        for key in self.keys:
            self.poke(key)

    def lose_data(self) -> None:
        """Forget everything but who listens, and the time."""
        self.losses += 1
        waited = {ticket for line in self.shared.lines.values() for ticket in line}
        held = {lane.held.ticket for lane in self.shared.lanes.values() if lane.held is not None}
        self.missed = (waited | held) & self.numbered - self.displaced
        self.displaced |= waited | held | self.shared.fates.keys()
        for kept in (self.shared.lanes, self.shared.lines, self.shared.fates, self.alive, self.paused):
            kept.clear()
        self.shared.token = 0
        self.clock.ahead += A_MOMENT
        self.recovers = self.clock.monotonic() + (self.lease or 0.0)

    # -- inside

    def _do(self, worker: str, key: str, act: Callable[[Steps], T]) -> T:
        rows, lane = _LeasedRows(self, key), self.shared.lanes.get(key)
        if lane is not None and lane.held is not None and not rows.is_alive(lane.held.worker, lane.held.ticket):
            self.displaced.add(lane.held.ticket)
        steps = self._steps(rows, key, worker, now=self.clock.monotonic())
        found = act(steps)
        self._note(key)
        for to, note in steps.notes:
            self._post(to, note)
        return found

    def _note(self, key: str) -> None:
        lane, now = self.shared.lanes.get(key), self.clock.monotonic()
        if lane is not None and lane.held is not None:
            self.granted_at.setdefault(lane.held.ticket, now)
            if lane.held.asked:
                self.asked_at.setdefault(lane.held.ticket, now)
        self.lent.update(place.ticket for place in self.shared.lines.get(key, {}).values() if place.lent)

    def _touch(self, worker: str, ticket: str) -> None:
        self.alive[ticket] = worker, self.clock.monotonic() + (self.lease or 0.0)

    def _check_order(self, worker: str, key: str, ticket: str) -> None:
        """Note who comes before another of its worker that asked earlier: names of turns are numbers that grow."""
        number = int(ticket.rpartition("-")[2])
        last = self._last.get((worker, key), 0)
        if number < last:
            self.disorder.append(f"{ticket} came to {key!r} behind number {last} of its own worker")
        self._last[worker, key] = max(number, last)

    def _knows(self, key: str, ticket: str) -> bool:
        lane = self.shared.lanes.get(key)
        held = None if lane is None else lane.held
        return (held is not None and held.ticket == ticket) or ticket in self.shared.lines.get(key, {})

    def _assert_again(self, worker: str, alive: Alive) -> None:
        """Let who has the lane say so after that was lost; the newest is right."""
        lane = self.shared.lanes.get(alive.key, Lane())
        held = lane.held
        if not self.recovering or alive.ticket in self.gone or (held is not None and held.ticket == alive.ticket):
            return
        if held is not None and held.token > alive.token:
            return
        rows = _LeasedRows(self, alive.key)
        rows.drop(alive.ticket)
        self._touch(worker, alive.ticket)
        again = Held(alive.ticket, worker, alive.token, self.clock.monotonic())
        self.shared.lanes[alive.key] = Lane(again, lane.owes, lane.paused)
        self.shared.token = max(self.shared.token, alive.token)
        if held is not None:
            self._post(held.worker, Lost(alive.key, held.ticket))


class _LeasedRows(_Rows):
    """Those in memory, but for who is alive, and that nothing is granted while data are recovered."""

    def __init__(self, server: Server, key: str) -> None:
        super().__init__(server.shared, key, server.clock)
        self._server = server

    def lane(self) -> Lane | None:
        """Return it; as paused while nothing may be granted, which is not kept."""
        found, server = super().lane(), self._server
        paused = self._key in server.paused or server.recovering
        if found is None and not paused and self._key not in server.shared.lines:
            return None
        return replace(found or Lane(), paused=paused)

    def drop(self, ticket: str) -> None:
        """Take a ticket out of the line."""
        place = self.place(ticket)
        if place is not None and not self.is_alive(place.worker, ticket):
            self._server.displaced.add(ticket)
        super().drop(ticket)

    def is_alive(self, worker: str, ticket: str) -> bool:
        """Tell whether a ticket may have the lane."""
        server = self._server
        if server.lease is None:
            return worker in server.workers
        return server.alive.get(ticket, ("", 0.0))[1] > server.clock.monotonic()
