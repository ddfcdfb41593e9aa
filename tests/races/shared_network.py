"""What lies between workers and what they share: delays, losses, answers that do not come, workers that are cut off."""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from races.shared_server import Server
from turnlane.engines import Alive, Answer, Ask, End, Engine, LaneView, Note, Queued, Tell
from turnlane.errors import EngineUnavailable, OutcomeUnknown

__all__ = ("LEASE", "Network", "Station", "Weather")

T = TypeVar("T")

LEASE = 3.0
STEP_TIMEOUT = 0.9  # seconds after which a worker gives a step up: before a third of the lease


@dataclass(frozen=True, slots=True)
class Weather:
    """What a network does in one run.

    Attributes:
        leased: whether tickets are leased; else the death of a worker is known at once, and nothing is ever lost.
        immediate: whether steps mostly end without waiting for anything.
        delay: how many seconds a step, an answer or a note is on its way, at most.
        loses: the chance that a note is lost.
        fails: the chance that a step is not done, not answered, done twice, or done after it was given up.
        failures: how many steps do so at most.
    """

    leased: bool = True
    immediate: bool = False
    delay: float = 0.0
    loses: float = 0.0
    fails: float = 0.0
    failures: int = 0

    @property
    def calm(self) -> bool:
        """Whether no step ever fails by itself."""
        return not self.fails


class Network:
    """All ways between the workers of one run and their server.

    Mutable: `stations` (by the name of their worker), `troubled` (whether a worker was cut off, or data were lost),
    `unsettled` (turns, and tickets whose waits they wanted to end and may not have), `_failures` (that may still come).

    Args:
        weather: what may happen.
        rng: draws what happens.
        loop: in which all of it happens.
    """

    def __init__(self, weather: Weather, rng: random.Random, loop: asyncio.AbstractEventLoop) -> None:
        self.weather = weather
        self.rng = rng
        self.loop = loop
        self.server: Server | None = None
        self.stations: dict[str, Station] = {}
        self.troubled = False
        self.unsettled: set[tuple[str, str]] = set()
        self._failures = weather.failures

    def post(self, worker: str, note: Note) -> None:
        """Send a note on its way; those of one worker keep their order."""
        station = self.stations.get(worker)
        if station is None:
            return
        if self.rng.random() >= self.weather.loses:
            station.deliver(note)

    def delay(self) -> float | None:
        """Draw how long something is on its way; None if no time at all."""
        if self.rng.random() < 0.5:
            return None
        return self.rng.choice((0.0, 0.0, self.rng.uniform(0.0, self.weather.delay)))

    def failure(self) -> str:
        """Draw how a step fails; "" if it does not."""
        if not self._failures or self.rng.random() >= self.weather.fails:
            return ""
        self._failures -= 1
        kinds = ["refused", "unsent", "unheard", "unheard", "twice", "twice"]
        return self.rng.choice([*kinds, "late"] if self.weather.leased else kinds)


class Station(Engine):
    """The engine of one worker: what it asks goes over the network to the server.

    Mutable: `worker` (once it is open), `dead`, `closed`, `_tell`, `_cut_until`, `_notes_from` (before which no note
    comes, so that they keep their order).
    """

    lease: float | None
    immediate: bool

    def __init__(self, network: Network, server: Server) -> None:
        self.where: str = "memory"
        self.lease = server.lease
        self.immediate = network.weather.immediate
        self.worker = ""
        self.dead = self.closed = False
        self._network = network
        self._server = server
        self._tell: Tell | None = None
        self._cut_until = 0.0
        self._notes_from = 0.0

    # -- what happens to it

    def kill(self) -> None:
        """Nothing leaves this worker any more, and nothing comes."""
        self.dead = True
        if self.lease is None:
            self._network.loop.call_soon(self._server.bury, self.worker)

    def cut(self, seconds: float) -> None:
        """Let nothing through for so long."""
        self._network.troubled = True
        self._cut_until = max(self._cut_until, self._now() + seconds)

    @property
    def is_cut(self) -> bool:
        """Whether nothing gets through."""
        return self._now() < self._cut_until

    def deliver(self, note: Note) -> None:
        """Tell the worker something, when the network gets it there."""
        delay, now = self._network.delay(), self._now()
        if delay is None and self._notes_from <= now and not self.is_cut and self.immediate:
            self._hear(note)
            return
        at = max(now + (delay or 0.0), self._notes_from)
        if self._cut_until > at:
            if self._network.rng.random() < 0.5:
                return
            at = self._cut_until
        self._notes_from = at
        self._network.loop.call_at(at, self._hear, note)

    def _hear(self, note: Note) -> None:
        if self._tell is not None and not self.dead and not self.closed:
            self._tell(note)

    # -- the engine

    async def open(self, worker: str, tell: Tell) -> None:
        """Begin."""
        self.worker, self._tell = worker, tell
        if self.dead:
            return

        def join() -> None:
            self._server.join(worker)
            self._network.stations[worker] = self

        await self._step("open", "", join)

    async def acquire(self, key: str, ask: Ask) -> Answer:
        """Come to a lane."""
        answer = await self._step("acquire a lane", key, lambda: self._server.acquire(self.worker, key, ask))
        if isinstance(answer, Queued):
            self._server.numbered.add(ask.ticket)
        return answer

    async def leave(self, key: str, ticket: str, *, owes: bool | None = False, scatter: bool = False) -> None:
        """Let the lane go, or leave the line."""
        if not self.dead:
            await self._step(
                "leave a lane",
                key,
                lambda: self._server.leave(self.worker, key, ticket, owes=owes, scatter=scatter),
            )

    async def settle(self, key: str, ticket: str, ends: Sequence[End]) -> None:
        """End the waits of tickets."""
        tickets = {(ticket, end.ticket) for end in ends}
        self._network.unsettled |= tickets
        if not self.dead:
            await self._step("settle messages", key, lambda: self._server.settle(self.worker, key, ticket, ends))
            self._network.unsettled -= tickets

    async def interrupt(self, key: str, *, grace: float) -> bool:
        """Have whoever has the lane asked to stop."""
        return await self._step("interrupt", key, lambda: self._server.interrupt(self.worker, key, grace=grace))

    async def pause(self, key: str | None, paused: bool) -> None:
        """Grant the lane to nobody until it is undone."""
        if key is not None and not self.dead:
            await self._step("pause a lane", key, lambda: self._server.pause(self.worker, key, paused=paused))

    async def renew(self, tickets: Iterable[Alive]) -> list[Note]:
        """Return what is to be told of tickets."""
        known = list(tickets)
        return await self._step("renew tickets", "", lambda: self._server.renew(self.worker, known))

    async def look(self, key: str | None = None) -> list[LaneView]:
        """Return nothing: the run looks at the server."""
        return []

    async def aclose(self) -> None:
        """Be closed."""
        self.closed = True
        if self.lease is None or not (self.dead or self.is_cut):
            self._server.bury(self.worker)

    def forget(self) -> None:
        """Be closed."""
        self.closed = True
        self._server.bury(self.worker)

    # -- inside

    async def _step(self, operation: str, key: str, do: Callable[[], T]) -> T:
        network = self._network
        await self._travel()
        if self.dead or self.is_cut:
            await self._get_nowhere(operation, key)
        failure = network.failure()
        if failure == "refused":
            raise EngineUnavailable(self.where, operation=operation, reason="the network said so", key=key)
        if failure == "unsent":
            raise OutcomeUnknown(self.where, operation=operation, reason="the network said so", key=key)
        if failure == "late":
            network.loop.call_later(network.rng.uniform(0.0, STEP_TIMEOUT), self._do_late, do)
            raise OutcomeUnknown(self.where, operation=operation, reason="the network said so", key=key)
        answer = do()
        if failure == "twice":
            answer = do()
        await self._travel()
        if failure == "unheard" or self.dead or self.is_cut:
            raise OutcomeUnknown(self.where, operation=operation, reason="the answer was lost", key=key)
        return answer

    def _do_late(self, do: Callable[[], object]) -> None:
        if not self.dead and not self.closed:
            self._server.is_late = True
            do()
            self._server.is_late = False

    async def _travel(self) -> None:
        delay = self._network.delay()
        if delay is not None:
            await asyncio.sleep(delay)

    async def _get_nowhere(self, operation: str, key: str) -> None:
        rng = self._network.rng
        kind = rng.choice(("at once", "soon", "late"))
        if kind == "at once":
            raise EngineUnavailable(self.where, operation=operation, reason="it is cut off", key=key)
        await asyncio.sleep(STEP_TIMEOUT if kind == "late" else rng.uniform(0.0, STEP_TIMEOUT))
        raise OutcomeUnknown(self.where, operation=operation, reason="it is cut off", key=key)

    def _now(self) -> float:
        return self._network.loop.time()
