"""Lanes in Redis, in this process and others."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from turnlane import Enqueue, Lanes
from turnlane.engines import Alive, Engine
from turnlane.engines.redis import RedisEngine
from turnlane.testing.engine_suite import Worker

__all__ = ("PATIENCE", "Occupancy", "OtherProcess", "alive", "engines", "lanes_on", "line_of", "other_process")

PATIENCE = 30.0
EVERYBODY = Enqueue(max_waiting=None, wait_timeout=120.0)
WORKER = os.path.join(os.path.dirname(__file__), "redis_worker.py")


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


class OtherProcess:
    """A process of `redis_worker`."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def says(self) -> dict[str, Any]:
        """Return its next line."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self.process.stdout.readline()
        assert line, "the process has ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def go(self) -> None:
        """Let it begin."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")


@asynccontextmanager
async def other_process(url: str, lease: float, *what: str) -> AsyncGenerator[OtherProcess]:
    """Run a process that is ready in the block, and gone after it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    arguments = (WORKER, url, str(lease), *what)
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=PIPE, stdout=PIPE, env=environment)
    other = OtherProcess(process)
    try:
        assert await other.says() == {"ready": True}
        yield other
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
