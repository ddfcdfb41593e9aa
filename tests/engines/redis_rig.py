"""Lanes in Redis, in this process."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from turnlane import Enqueue, Lanes
from turnlane.engines import Alive, Engine
from turnlane.engines.redis import RedisEngine
from turnlane.testing.engine_suite import Worker

__all__ = ("PATIENCE", "Line", "Occupancy", "alive", "engines", "lanes_on", "line_of", "made_known")

PATIENCE = 30.0
EVERYBODY = Enqueue(max_waiting=None, wait_timeout=120.0)


@asynccontextmanager
async def engines(url: str, count: int, *, lease: float = 15.0, timeout: float = 3.0) -> AsyncGenerator[list[Worker]]:
    """Open so many workers of one place for a block."""
    async with AsyncExitStack() as stack:
        found: list[Worker] = []
        for _ in range(count):
            worker = Worker(RedisEngine(url, lease=lease, timeout=timeout))
            await worker.engine.open(worker.name, worker.tell)
            stack.push_async_callback(worker.engine.aclose)
            found.append(worker)
        yield found


@asynccontextmanager
async def lanes_on(url: str, count: int, *, lease: float, timeout: float = 3.0) -> AsyncGenerator[list[Lanes]]:
    """Use so many `Lanes` of one place for a block."""
    async with AsyncExitStack() as stack:
        found: list[Lanes] = []
        for _ in range(count):
            lanes = await stack.enter_async_context(Lanes(RedisEngine(url, lease=lease, timeout=timeout)))
            async with lanes.turn("the first opens them"):
                found.append(lanes)
        yield found


@asynccontextmanager
async def alive(worker: Worker, *tickets: str, key: str = "k") -> AsyncGenerator[None]:
    """Renew tickets during a block, as a worker does of which more than an engine runs."""

    async def renewed() -> None:
        while True:
            for note in await worker.engine.renew([Alive(key, ticket) for ticket in tickets]):
                worker.tell(note)
            await asyncio.sleep(0.1)  # a heartbeat: nobody is waited for

    task = asyncio.create_task(renewed())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class Occupancy:
    """Turns of one key, and whether one of them was ever not alone.

    Mutable: `inside`, `order` (names as they ran) and `tokens`.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.inside = 0
        self.order: list[str] = []
        self.tokens: list[int] = []

    async def visit(
        self, lanes: Lanes, name: str, *, go: asyncio.Event | None = None, begun: asyncio.Event | None = None
    ) -> None:
        """Have a turn, until `go` is set."""
        async with lanes.turn(self.key, policy=EVERYBODY) as turn:
            self.inside += 1
            assert self.inside == 1, f"{name} is not alone"
            self.order.append(name)
            self.tokens.append(turn.token)
            try:
                if begun is not None:
                    begun.set()
                if go is not None:
                    await go.wait()
                else:
                    await asyncio.sleep(0)
            finally:
                self.inside -= 1

    def require_all(self, *names: str) -> None:
        """All of these ran, in this order, with tokens that grow."""
        assert self.order == list(names)
        assert self.tokens == sorted(set(self.tokens))


async def line_of(lanes: Lanes, key: str, count: int) -> None:
    """Return when so many wait for a lane that somebody has: each look is a question to the server."""
    engine: Engine = cast("Any", lanes.gate).engine
    async with asyncio.timeout(PATIENCE):
        while True:
            views = await engine.look(key)
            if views and views[0].holder and len(views[0].waiting) == count:
                return


async def made_known(url: str) -> None:
    """Have the records of a place made by a worker with a short lease: others need not wait for anybody then."""
    async with Lanes(RedisEngine(url, lease=0.5)) as lanes, lanes.turn("the first"):
        pass


class Line:
    """A turn of one worker, and four that wait for it, of all three, until they are let go.

    Mutable: `_turns`.
    """

    NAMES = ("a", "b", "c", "b again", "a again")

    def __init__(self, workers: list[Lanes], key: str) -> None:
        self._workers = workers
        self._seen = Occupancy(key)
        self._begun, self._go = asyncio.Event(), asyncio.Event()
        self._turns: list[asyncio.Task[None]] = []

    async def form(self) -> None:
        """Have the first run, and the others wait in this order."""
        for count, name in enumerate(self.NAMES):
            await self._add(name, count)
            await self._begun.wait()

    async def _add(self, name: str, waiting: int) -> None:
        lanes, key = self._workers["abc".index(name[0])], self._seen.key
        visit = self._seen.visit(lanes, name, begun=self._begun, go=self._go)
        self._turns.append(asyncio.create_task(visit))
        if waiting:
            await line_of(self._workers[2], key, waiting)

    async def go(self) -> None:
        """Let somebody come late, and the first one go: all come after it in the order they stood in."""
        await line_of(self._workers[2], self._seen.key, len(self.NAMES) - 1)
        await self._add("c late", len(self.NAMES))
        self._go.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._turns)
        self._seen.require_all(*self.NAMES, "c late")

    async def aclose(self) -> None:
        for turn in self._turns:
            turn.cancel()
        await asyncio.gather(*self._turns, return_exceptions=True)
