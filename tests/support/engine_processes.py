"""Processes of `engine_worker.py`, what they are told and what they say."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from turnlane import Lanes
from turnlane.engines import Engine
from turnlane.lanes.shared import SharedGate

__all__ = ("EngineProcess", "engine_of", "engine_process", "engine_processes", "nothing_left")

PATIENCE = 60.0
SCRIPT = Path(__file__).with_name("engine_worker.py")
LONGEST_LINE = 256 * 1024 * 1024


class EngineProcess:
    """A worker in a process of its own.

    Mutable: `_reports`, those nobody has asked for yet; `_news`, set when there is another one; `_ended`.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._reports: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self._ended = False
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, do: str, name: str, **facts: Any) -> None:
        """Have it begin something."""
        self._write({"do": do, "name": name, **facts})

    def go(self, name: str) -> None:
        """Let something go on."""
        self._write({"go": name})

    def _write(self, facts: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(facts).encode() + b"\n")

    def has_told(self, *events: str, **facts: Any) -> dict[str, Any] | None:
        """Return the first report of one of these events that says this, once; None if there is none yet."""
        for place, report in enumerate(self._reports):
            if report["event"] in events and facts.items() <= report.items():
                return self._reports.pop(place)
        return None

    async def told(self, *events: str, timeout: float = PATIENCE, **facts: Any) -> dict[str, Any]:
        """Return the first report of one of these events that says this, once there is one.

        Raises:
            TimeoutError: there is none; it names what was said instead.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._told(events, facts)
        except TimeoutError:
            raise TimeoutError(f"it did not say {events} {facts}, but {str(self._reports)[:1000]}") from None

    async def _told(self, events: tuple[str, ...], facts: dict[str, Any]) -> dict[str, Any]:
        while True:
            if (found := self.has_told(*events, **facts)) is not None:
                return found
            broken = [report for report in self._reports if report["event"] == "broken"]
            assert not broken, broken
            assert not self._ended, f"it ended and did not say {events} {facts}: {self._reports}"
            self._news.clear()
            await self._news.wait()

    def send_signal(self, number: int) -> None:
        """Send a signal, without a look at what becomes of it."""
        self._process.send_signal(number)

    async def kill(self) -> None:
        """Kill it at once, and wait for the end."""
        self._process.kill()
        await self._process.wait()

    async def aclose(self) -> None:
        """End it: in order if it does so soon."""
        if self._process.returncode is None:
            self.send_signal(signal.SIGCONT)
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                async with asyncio.timeout(10):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
        await self._process.wait()
        await self._reading
        self._process._transport.close()  # type: ignore[attr-defined]

    async def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        while (line := await stdout.readline()).endswith(b"\n"):  # a kill may leave half a line
            self._reports.append(json.loads(line))
            self._news.set()
        self._ended = True
        self._news.set()


@asynccontextmanager
async def engine_process(url: str, lease: float, *, warm: bool = True) -> AsyncGenerator[EngineProcess, None]:
    """Run a worker for a block; it has opened its engine when the block begins, unless it is not to be `warm`."""
    async with engine_processes([url], lease, warm=warm) as (process,):
        yield process


@asynccontextmanager
async def engine_processes(
    urls: list[str], lease: float, *, warm: bool = True
) -> AsyncGenerator[list[EngineProcess], None]:
    """Run a worker for each URL, all started at once."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    async with AsyncExitStack() as stack:
        processes: list[EngineProcess] = []
        for url in urls:
            started = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", str(SCRIPT), url, str(lease)),
                stdin=PIPE,
                stdout=PIPE,
                limit=LONGEST_LINE,
                env=environment,
            )
            process = EngineProcess(started)
            stack.push_async_callback(process.aclose)
            processes.append(process)
        for process in processes:
            await process.told("ready")
        for process in processes if warm else ():
            process.tell("warm", str(process.pid))
        for process in processes if warm else ():
            await process.told("warm")
        yield processes


async def nothing_left(lanes: Lanes, *, timeout: float = 20) -> None:
    """Return when no lane is had or waited for: each look is a question to those who know."""
    async with asyncio.timeout(timeout):
        while True:
            if not await engine_of(lanes).look():
                return
            await asyncio.sleep(0.05)


def engine_of(lanes: Lanes) -> Engine:
    """Return the engine of lanes that are shared."""
    assert isinstance(lanes.gate, SharedGate)
    return lanes.gate.engine
