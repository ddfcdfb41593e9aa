"""Turns of lanes that several workers share, for tests that decide when each of them ends."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from engines.places import Place
from support.turns_steps import apart
from turnlane import Lanes, Turn
from turnlane.engines import Engine
from turnlane.hooks import TurnQueued
from turnlane.testing import assert_no_leaks

__all__ = ("KEY", "Visit", "nothing_left", "two", "within")

KEY = "agent:main:alice"


class Visit:
    """One turn that runs until it is let go; what became of it is what its task returns or raises."""

    def __init__(self, lanes: Lanes, **settings: Any) -> None:
        self.go = asyncio.Event()
        self.runs = asyncio.Event()
        self.waits = asyncio.Event()
        self.turn: Turn | None = None
        lanes.hooks.on(TurnQueued, lambda _: self.waits.set())
        self.task = apart(self._run(lanes, settings))

    async def _run(self, lanes: Lanes, settings: dict[str, Any]) -> Turn:
        async with lanes.turn(KEY, **settings) as turn:
            self.turn = turn
            self.runs.set()
            await self.go.wait()
        return turn

    async def running(self) -> "Visit":
        await within(self.runs.wait())
        return self

    async def waiting(self) -> "Visit":
        await within(self.waits.wait())
        return self

    async def left(self) -> Turn:
        self.go.set()
        turn: Turn = await within(self.task)
        return turn


async def within(awaitable: Awaitable[Any]) -> Any:
    async with asyncio.timeout(10):
        return await awaitable


async def nothing_left(engine: Engine) -> None:
    """Return when no lane lives any more: what has left may be on its way to the engine."""
    while await engine.look():
        await asyncio.wait([apart(asyncio.sleep(0))])


@asynccontextmanager
async def two(path: Path, place: Place, **settings: Any) -> AsyncGenerator[tuple[Lanes, Lanes], None]:
    """Two workers, and nothing left of them."""
    make = place(path)
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(Lanes(make(), **settings)) for _ in range(2)]
        yield one, other
        assert_no_leaks(one)
        assert_no_leaks(other)
        await within(nothing_left(one.gate.engine))  # type: ignore[attr-defined]
