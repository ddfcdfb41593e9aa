"""What tests of the monitor listen with, and watchers that tell less than they should."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from turnlane.hooks import UnownedEditFound
from turnlane.transcripts import TranscriptMonitor

__all__ = ("Found", "deaf", "failing", "found_by", "until")

PATIENCE = 10  # seconds until what should be told at once is taken not to be told


class Found:
    """What a monitor has found, in order."""

    def __init__(self, monitor: TranscriptMonitor) -> None:
        self.monitor = monitor
        self.events = aiter(monitor)

    async def next(self) -> UnownedEditFound:
        """Wait for the next one."""
        async with asyncio.timeout(PATIENCE):
            return await anext(self.events)

    async def until(self, kind: str) -> UnownedEditFound:
        """Wait for one of a kind: an editor that empties a file first may be seen in between."""
        while (event := await self.next()).kind != kind:
            pass
        return event

    async def nothing(self) -> None:
        """Look at everything; nothing is found but what was waited for."""
        before = self.monitor.statistics().found
        await self.monitor.scan()
        assert self.monitor.statistics().found == before


@asynccontextmanager
async def found_by(*arguments: Any, **settings: Any) -> AsyncGenerator[Found, None]:
    """Open a monitor; its first audit, which would find by itself what a test looks for, is over."""
    async with TranscriptMonitor(*arguments, **settings) as monitor:
        await until(lambda: monitor.statistics().audits > 0)
        found = Found(monitor)
        yield found
    assert [event async for event in found.events] == []


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what no event tells of: a thread, a log record, a state of the monitor."""
    async with asyncio.timeout(PATIENCE):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def deaf(
    directory: str,
    recursive: bool,
    changes: Callable[[frozenset[str]], None],
    started: Callable[[], None],
    stop: threading.Event,
) -> None:
    """A watcher that loses everything."""
    started()
    stop.wait()


def failing(
    directory: str,
    recursive: bool,
    changes: Callable[[frozenset[str]], None],
    started: Callable[[], None],
    stop: threading.Event,
) -> None:
    """A watcher that the system refuses."""
    raise OSError(24, "Too many open files")
