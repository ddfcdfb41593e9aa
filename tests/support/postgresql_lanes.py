"""Processes with lanes in PostgreSQL, and workers of an engine that tests reach into."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from turnlane import Lanes
from turnlane.engines.postgresql import PostgresqlEngine
from turnlane.lanes.shared import SharedGate
from turnlane.testing.engine_suite import Worker

__all__ = ("Process", "a_process", "a_worker", "engine_of")

SCRIPT = Path(__file__).parent.parent / "engines" / "postgresql_worker.py"
LONGEST = 30.0


class Process:
    """One that runs, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self, event: str) -> dict[str, Any]:
        """Return the next thing it says, which is about that event."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LONGEST):
            line = await self._process.stdout.readline()
        found: dict[str, Any] = json.loads(line or b'{"event": "nothing"}')
        assert found["event"] == event, found
        return found

    async def go_on(self) -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.communicate()


@asynccontextmanager
async def a_process(what: str, url: str, *, lease: float, path: Path | None = None) -> AsyncGenerator[Process, None]:
    """Start one, which is killed when the block ends."""
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), what, url, str(lease), str(path or ""), stdin=pipe, stdout=pipe
    )
    process = Process(started)
    try:
        yield process
    finally:
        await process.end()


@asynccontextmanager
async def a_worker(url: str, **options: Any) -> AsyncGenerator[Worker, None]:
    """Open an engine of this process for a block."""
    worker = Worker(PostgresqlEngine(url, **options))
    await worker.engine.open(worker.name, worker.tell)
    try:
        yield worker
    finally:
        await worker.engine.aclose()


def engine_of(lanes: Lanes) -> PostgresqlEngine:
    """Return the engine of lanes in PostgreSQL."""
    assert isinstance(lanes.gate, SharedGate)
    assert isinstance(lanes.gate.engine, PostgresqlEngine)
    return lanes.gate.engine
