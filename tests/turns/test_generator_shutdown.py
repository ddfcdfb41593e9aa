"""Generator turns that are open when their loop ends, and any mixture of endings."""

import asyncio
import gc
import logging
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from support.turns_steps import until_idle
from support.turns_streams import finished_as
from turnlane import Enqueue, Lanes, Runtime
from turnlane.testing import assert_no_leaks


class TestEndOfTheLoop:
    """`asyncio.run` ends with generators open."""

    @pytest.mark.parametrize("where", ["between items", "waiting for an item", "waiting in line", "first step"])
    def test_nothing_is_logged_or_leaked(self, where: str, caplog: pytest.LogCaptureFixture) -> None:
        """The function cleans up, the lane is free, the next loop finds everything in order."""
        runtime = Runtime()
        kept: list[object] = []
        seen: list[str] = []

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[int]:
            seen.append("began")
            try:
                yield 1
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                seen.append("cleaned")

        async def main() -> None:
            items = stream("a")
            kept.append(items)
            if where != "first step":
                await anext(items)
            if where == "waiting in line":
                items = stream("a")
                kept.append(items)
            if where != "between items":
                kept.append(asyncio.ensure_future(anext(items)))
                await (until_idle() if where != "first step" else asyncio.sleep(0))

        with caplog.at_level(logging.DEBUG, "asyncio"):
            asyncio.run(main())
            kept.clear()
            gc.collect()
        assert [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG] == []
        assert_no_leaks(runtime.lanes)
        assert seen == ["began", "cleaned"] or (where == "first step" and seen == [])
        assert "completed" not in finished_as(runtime)

        async def again() -> list[int]:
            async with aclosing(stream("a")) as items:
                return [await anext(items)]

        assert asyncio.run(again()) == [1]


class Mixture:
    """Many consumers over few keys, each leaving in some way of its own."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(f"endings {seed}")
        self.runtime = Runtime(lanes=Lanes(policy=Enqueue(max_waiting=None)))
        self.running: dict[str, int] = {}
        self.arrived: dict[str, list[int]] = {}
        self.began: dict[str, list[int]] = {}

        @self.runtime.agent_turn(key="key")
        async def stream(key: str, number: int) -> AsyncIterator[int]:
            assert self.running.setdefault(key, number) == number, "two streams of a key at once"
            self.began.setdefault(key, []).append(number)
            try:
                for item in range(chance.randrange(6)):
                    await self.pause(3)
                    yield item
            finally:
                try:
                    await self.pause(3)  # a first cancellation may come here, as anywhere
                finally:
                    del self.running[key]

        self._stream = stream

    async def pause(self, bound: int) -> None:
        for _ in range(self.chance.randrange(bound)):
            await asyncio.sleep(0)

    async def consume(self, number: int) -> None:
        """Read one stream, to its end or not; close it, or only drop it."""
        key, stop = self.chance.choice("abc"), self.chance.randrange(6)
        self.arrived.setdefault(key, []).append(number)
        items = self._stream(key, number)
        try:
            async for item in items:
                await asyncio.sleep(0)
                if item == stop:
                    break
        finally:
            if self.chance.random() < 0.5:
                await items.aclose()
            del items  # else a cancelled task keeps it, in the traceback of its error

    async def run(self, count: int) -> None:
        """Let `count` consumers arrive, and cancel some; return when all is over."""
        tasks: list[asyncio.Task[None]] = []
        for number in range(count):
            tasks.append(asyncio.create_task(self.consume(number)))
            if self.chance.random() < 0.3:
                self.chance.choice(tasks).cancel()
            await self.pause(5)
        await asyncio.wait(tasks)
        failed = [task.exception() for task in tasks if not task.cancelled()]
        assert [error for error in failed if error] == []


async def test_any_mixture_of_endings_keeps_order_and_frees_the_lanes(seed: int, long_form: bool) -> None:
    """No two streams of a key overlap, none overtakes, each that began cleans up, and no lane is left."""
    mixture = Mixture(seed)
    try:
        await mixture.run(2000 if long_form else 150)
        gc.collect()
        await until_idle()
        assert_no_leaks(mixture.runtime.lanes)
        assert mixture.running == {}
        for key, numbers in mixture.began.items():
            assert numbers == [each for each in mixture.arrived[key] if each in set(numbers)]
    except AssertionError as error:
        raise AssertionError(f"with --seed={seed}: {error}") from error
