"""A generator turn function whose every step a test can see and hold."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from support.turns_steps import until_idle
from turnlane import Runtime, Turn
from turnlane.hooks import TurnFinished
from turnlane.testing import Gates, assert_no_leaks

__all__ = ("Streams", "finished_as")


class Streams:
    """Generator turns that yield 0, 1, 2, ...; what happens in them is in `seen`, as text.

    Before each item after the first `item` is waited for, unless it is set, and in the cleanup `clean` is. `cleaning`
    is set where a cleanup begins.
    """

    def __init__(self, runtime: Runtime | None = None, *, count: int = 3, **settings: Any) -> None:
        self.runtime = Runtime() if runtime is None else runtime
        self.gates = Gates(self.runtime.hooks)
        self.seen: list[str] = []
        self.turns: list[Turn] = []
        self.item, self.clean, self.cleaning = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.item.set()
        self.clean.set()

        @self.runtime.agent_turn(key="key", **settings)
        async def stream(key: str, name: str = "one", *, turn: Turn) -> AsyncIterator[int]:
            self.turns.append(turn)
            self.seen.append(f"{name} begins")
            try:
                for number in range(count):
                    if number:
                        await self.item.wait()
                    self.seen.append(f"{name} gives {number}")
                    yield number
            finally:
                self.seen.append(f"{name} cleans")
                self.cleaning.set()
                await self.clean.wait()
                self.seen.append(f"{name} ends")

        self.open: Callable[..., AsyncGenerator[int, None]] = stream

    @property
    def outcomes(self) -> list[str]:
        """How the turns that ran ended."""
        return [event.outcome for event in self.gates.at(TurnFinished).seen]

    async def settled(self) -> list[str]:
        """Return what happened, when nothing more does; the lanes must be free then."""
        await until_idle()
        assert_no_leaks(self.runtime.lanes)
        return self.seen


def finished_as(runtime: Runtime) -> dict[str, int]:
    """How many turns ended in which way; those that completed only if there are any."""
    return {name: count for name, count in runtime.lanes.statistics().totals.items() if count}
