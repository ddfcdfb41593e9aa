"""An engine in memory: what the others are compared with, and lanes that several `Lanes` of one process share."""

import secrets
from collections.abc import Iterable, Sequence
from typing import TypeVar

from turnlane.clock import Clock
from turnlane.engines.base import (
    SECRET_BYTES,
    Alive,
    Answer,
    Ask,
    Draining,
    End,
    Engine,
    LaneView,
    Note,
    Over,
    Tell,
    TicketView,
)
from turnlane.engines.lane import Lane, LaneRows, Place, Steps
from turnlane.errors import EngineUnavailable

__all__ = ("MemoryEngine", "MemoryLanes")

_T = TypeVar("_T")

KEEP_FATES = 60.0  # seconds; whoever asks again does so within a few


class MemoryLanes:
    """What several memory engines share.

    Mutable: all of it.
    """

    def __init__(self) -> None:
        self.lanes: dict[str, Lane] = {}
        self.lines: dict[str, dict[str, Place]] = {}
        self.fates: dict[str, tuple[float, Over]] = {}
        self.workers: dict[str, Tell] = {}
        self.token: int = 0
        self.secret: bytes = secrets.token_bytes(SECRET_BYTES)


class MemoryEngine(Engine):
    """See `Engine`. A worker is alive as long as its engine is open.

    Args:
        shared: with whom; None for nobody.
        clock: tells the time.
    """

    lease: float | None = None
    immediate: bool = True

    def __init__(self, shared: MemoryLanes | None = None, *, clock: Clock | None = None) -> None:
        self.where: str = "memory"
        self.shared: MemoryLanes = shared if shared is not None else MemoryLanes()
        self.secret: bytes = self.shared.secret
        self._clock = clock if clock is not None else Clock()
        self._worker = ""

    async def open(self, worker: str, tell: Tell) -> None:
        """Begin."""
        self.shared.workers[worker] = tell
        self._worker = worker

    async def acquire(self, key: str, ask: Ask) -> Answer:
        """Come to a lane."""
        steps = self._steps(key, "acquire a lane")
        return self._told(steps, steps.acquire(ask))

    async def leave(self, key: str, ticket: str, *, owes: bool | None = False, scatter: bool = False) -> None:
        """Let the lane go, or leave the line."""
        steps = self._steps(key, "leave a lane")
        steps.leave(ticket, owes=owes, scatter=scatter)
        self._tell(steps)

    async def settle(self, key: str, ticket: str, ends: Sequence[End]) -> None:
        """End the waits of tickets."""
        steps = self._steps(key, "settle messages")
        steps.settle(ticket, ends)
        self._tell(steps)

    async def interrupt(self, key: str, *, grace: float) -> bool:
        """Have whoever has the lane asked to stop."""
        steps = self._steps(key, "interrupt a lane")
        return self._told(steps, steps.interrupt(grace=grace))

    async def pause(self, key: str | None, paused: bool) -> None:
        """Grant the lane to nobody until it is undone; without a key, tell all workers."""
        if key is None:
            self._require_open("", "drain all workers")
            for tell in list(self.shared.workers.values()):
                tell(Draining(paused))
            return
        steps = self._steps(key, "pause a lane")
        steps.pause(paused)
        self._tell(steps)

    async def renew(self, tickets: Iterable[Alive]) -> list[Note]:
        """Return what is to be told of tickets."""
        found: list[Note] = []
        for alive in tickets:
            steps = self._steps(alive.key, "renew tickets")
            found += self._told(steps, steps.renew(alive.ticket))
        return found

    async def look(self, key: str | None = None) -> list[LaneView]:
        """Return the lanes that live now."""
        shared, now = self.shared, self._clock.monotonic()
        found: list[LaneView] = []
        for each in sorted(shared.lanes.keys() | shared.lines.keys()) if key is None else [key]:
            lane, line = shared.lanes.get(each), shared.lines.get(each, {})
            if lane is None and not line:
                continue
            holder = None if lane is None or lane.held is None or lane.held.worker not in shared.workers else lane.held
            held = None if holder is None else TicketView(holder.ticket, now - holder.since)
            living = [place for place in line.values() if place.worker in shared.workers or (holder and place.lent)]
            waiting = sorted(living, key=lambda place: place.number)
            views = tuple(TicketView(place.ticket, now - place.since) for place in waiting)
            found.append(LaneView(each, held, views, lane is not None and lane.paused))
        return found

    async def aclose(self) -> None:
        """Be dead."""
        shared, worker = self.shared, self._worker
        self._worker = ""
        if shared.workers.pop(worker, None) is None:
            return
        for key in list(shared.lanes.keys() | shared.lines.keys()):
            steps = Steps(_Rows(shared, key, self._clock), key, worker, now=self._clock.monotonic())
            steps.promote()
            self._tell(steps)

    def forget(self) -> None:
        """Be dead, without telling those who wait."""
        self.shared.workers.pop(self._worker, None)
        self._worker = ""

    def _require_open(self, key: str, operation: str) -> None:
        if not self._worker:
            raise EngineUnavailable(self.where, operation=operation, reason="it is not open", key=key)

    def _steps(self, key: str, operation: str) -> Steps:
        self._require_open(key, operation)
        return Steps(_Rows(self.shared, key, self._clock), key, self._worker, now=self._clock.monotonic())

    def _told(self, steps: Steps, answer: _T) -> _T:
        self._tell(steps)
        return answer

    def _tell(self, steps: Steps) -> None:
        for worker, note in steps.notes:
            tell = self.shared.workers.get(worker)
            if tell is not None:
                tell(note)


class _Rows(LaneRows):
    """See `LaneRows`."""

    def __init__(self, shared: MemoryLanes, key: str, clock: Clock) -> None:
        self._shared = shared
        self._key = key
        self._clock = clock

    def lane(self) -> Lane | None:
        return self._shared.lanes.get(self._key)

    def put_lane(self, lane: Lane | None) -> None:
        if lane is None:
            self._shared.lanes.pop(self._key, None)
        else:
            self._shared.lanes[self._key] = lane

    def token(self) -> int:
        self._shared.token = max(self._shared.token + 1, self._clock.wall_ns() // 1000)
        return self._shared.token

    def first(self) -> Place | None:
        return min(self._line(), key=lambda place: place.number, default=None)

    def last(self) -> Place | None:
        return max(self._line(), key=lambda place: place.number, default=None)

    def place(self, ticket: str) -> Place | None:
        return self._shared.lines.get(self._key, {}).get(ticket)

    def places(self, run: int | None = None) -> list[Place]:
        found = [place for place in self._line() if run in (None, place.run)]
        return sorted(found, key=lambda place: place.number)

    def ahead(self, run: int | None = None) -> int:
        return len({place.run for place in self._line() if not place.lent and (run is None or place.run < run)})

    def put(self, place: Place) -> None:
        self._shared.lines.setdefault(self._key, {})[place.ticket] = place

    def drop(self, ticket: str) -> None:
        line = self._shared.lines.get(self._key, {})
        line.pop(ticket, None)
        if not line:
            self._shared.lines.pop(self._key, None)

    def fate(self, ticket: str) -> Over | None:
        found = self._shared.fates.get(ticket)
        return None if found is None else found[1]

    def put_fate(self, worker: str, over: Over) -> None:
        fates, now = self._shared.fates, self._clock.monotonic()
        while fates and (oldest := next(iter(fates))) and fates[oldest][0] < now - KEEP_FATES:
            del fates[oldest]
        fates[over.ticket] = (now, over)

    def is_alive(self, worker: str, ticket: str) -> bool:
        return worker in self._shared.workers

    def _line(self) -> list[Place]:
        return list(self._shared.lines.get(self._key, {}).values())
