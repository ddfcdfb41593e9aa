"""Generator turns that are not read to their end: the lane is freed, the cleanup runs first."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

import pytest

from support.turns_steps import held, until_idle
from support.turns_streams import Streams
from turnlane import Runtime
from turnlane.errors import TurnInterrupted
from turnlane.testing import assert_no_leaks

ENDED = ["one cleans", "one ends"]


class TestClosing:
    """`aclose`, `break`, `athrow`."""

    async def test_closing_waits_for_the_cleanup(self) -> None:
        """When `aclose` returns the lane is free."""
        streams = Streams()
        items = streams.open("a")
        await anext(items)
        streams.clean.clear()
        closing = asyncio.ensure_future(items.aclose())
        await until_idle()
        assert streams.runtime.lanes.statistics().running == 1
        assert not closing.done()
        streams.clean.set()
        await closing
        assert_no_leaks(streams.runtime.lanes)
        assert streams.seen[-2:] == ENDED
        assert streams.outcomes == ["cancelled"]

    async def test_closing_again_or_before_the_first_item_does_nothing(self) -> None:
        """No lane is taken for what was never read."""
        streams = Streams()
        items = streams.open("a")
        await items.aclose()
        await items.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        assert streams.gates.events == []

    async def test_breaking_out_inside_aclosing(self) -> None:
        """The usual form."""
        streams = Streams()
        async with aclosing(streams.open("a")) as items:
            async for item in items:
                if item == 1:
                    break
        assert_no_leaks(streams.runtime.lanes)
        assert streams.seen[-3:] == ["one gives 1", *ENDED]

    async def test_breaking_out_of_a_bare_loop(self) -> None:
        """Python drops the generator, and asyncio closes it."""
        streams = Streams()
        async for _ in streams.open("a"):
            break
        assert (await streams.settled())[-2:] == ENDED

    async def test_an_exception_of_the_consumers_loop_body(self) -> None:
        """It is the one that is seen; the turn ends as if closed."""
        streams = Streams()

        async def consume() -> None:
            async with aclosing(streams.open("a")) as items:
                async for _ in items:
                    raise KeyError

        with pytest.raises(KeyError):
            await consume()
        assert_no_leaks(streams.runtime.lanes)
        assert streams.outcomes == ["cancelled"]

    async def test_throwing_in_ends_the_turn(self) -> None:
        """The thrown error comes back; the function sees that it is closed, not the error."""
        runtime = Runtime()
        got: list[type[BaseException]] = []

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[int]:
            try:
                yield 1
            except BaseException as error:
                got.append(type(error))
                raise

        items = stream("a")
        await anext(items)
        with pytest.raises(KeyError, match="mine"):
            await items.athrow(KeyError("mine"))
        assert got == [GeneratorExit]
        assert_no_leaks(runtime.lanes)

    @pytest.mark.parametrize("then", ["closes", "drops it", "is cancelled"])
    async def test_after_the_last_words_of_an_interrupted_turn(self, then: str) -> None:
        """The turn was cancelled once and has answered with an item; who leaves then does not wait for more."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", idle_consumer_timeout=30)
        async def stream(key: str) -> AsyncIterator[str]:
            yield "one"
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                yield "stopped"
                await asyncio.Event().wait()

        items: AsyncGenerator[str, None] | None = stream("a")
        assert items is not None
        assert await anext(items) == "one"
        asking = asyncio.ensure_future(anext(items))
        await until_idle()
        runtime.lanes.interrupt("a", grace=0)
        assert await asking == "stopped"
        del asking
        if then == "closes":
            closing = asyncio.ensure_future(items.aclose())
            done, _ = await asyncio.wait({closing}, timeout=10)
            assert done, "closing waits for a generator that stands at its yield"
            with suppress(TurnInterrupted):
                await closing
        if then == "is cancelled":
            asking = asyncio.ensure_future(anext(items))
            await until_idle()
            asking.cancel()
            over, _ = await asyncio.wait({asking}, timeout=10)
            assert over, "the consumer waits for a generator that goes on as if nothing was"
            with suppress(TurnInterrupted, asyncio.CancelledError):
                await asking
            del asking, over
        items = None
        gc.collect()
        await until_idle()
        assert_no_leaks(runtime.lanes)

    async def test_another_task_may_close(self) -> None:
        """Between two items."""
        streams = Streams()
        items = streams.open("a")
        await anext(items)
        await asyncio.create_task(items.aclose())
        assert_no_leaks(streams.runtime.lanes)
        assert streams.seen[-2:] == ENDED
        with pytest.raises(StopAsyncIteration):
            await anext(items)

    async def test_another_task_can_not_close_while_an_item_is_awaited(self) -> None:
        """Python says so, and the stream goes on."""
        streams = Streams()
        items = streams.open("a")
        await anext(items)
        streams.item.clear()
        waiting = asyncio.ensure_future(anext(items))
        await until_idle()
        with pytest.raises(RuntimeError, match="already running"):
            await items.aclose()
        streams.item.set()
        assert await waiting == 1
        await items.aclose()

    async def test_a_generator_that_goes_on_although_closed_does_not_keep_the_lane(self) -> None:
        """Last words nobody hears: who closes does not wait for them until the idle timeout."""
        runtime = Runtime()
        seen: list[str] = []

        @runtime.agent_turn(key="key", idle_consumer_timeout=30)
        async def stream(key: str) -> AsyncIterator[str]:
            try:
                yield "one"
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                yield "stopped"
                raise
            finally:
                seen.append("cleaned")

        items = stream("a")
        await anext(items)
        waiting = asyncio.ensure_future(anext(items))
        await until_idle()
        waiting.cancel()
        done, _ = await asyncio.wait({waiting}, timeout=10)
        assert done, "the consumer still waits for the turn it has left"
        assert seen == ["cancelled", "cleaned"]
        assert_no_leaks(runtime.lanes)


class TestCancelledConsumer:
    """The task that reads is cancelled."""

    async def test_while_it_waits_for_its_lane(self) -> None:
        """It leaves the line; the function never runs, who comes after it does."""
        streams = Streams(count=1)
        async with held(streams.runtime.lanes, "a"):
            gone = asyncio.ensure_future(anext(streams.open("a", "gone")))
            await until_idle()
            following = asyncio.ensure_future(anext(items := streams.open("a", "following")))
            await until_idle()
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            assert streams.runtime.lanes.statistics().waiting == 1
        assert await following == 0
        await items.aclose()
        assert (await streams.settled())[0] == "following begins"

    @pytest.mark.parametrize("steps", range(8))
    async def test_around_the_moment_it_gets_its_lane(self, steps: int) -> None:
        """Before, at and after the hand-over: the lane is passed on, whoever comes after it runs."""
        streams = Streams(count=1)
        async with held(streams.runtime.lanes, "a") as release:
            left = streams.open("a", "gone")
            gone = asyncio.ensure_future(anext(left))
            await until_idle()
            items = streams.open("a", "following")
            following = asyncio.ensure_future(anext(items))
            await until_idle()
            release.set()
            for _ in range(steps):
                await asyncio.sleep(0)
            gone.cancel()
            await asyncio.wait({gone})
            await left.aclose()  # where it had its item already
        assert await following == 0
        await items.aclose()
        seen = await streams.settled()
        assert ("gone begins" in seen) == ("gone ends" in seen)

    async def test_while_it_waits_for_an_item(self) -> None:
        """The generator is cancelled where it stands, and cleans up before the consumer goes on."""
        streams = Streams()
        items = streams.open("a")
        await anext(items)
        streams.item.clear()
        streams.clean.clear()
        waiting = asyncio.ensure_future(anext(items))
        await until_idle()
        waiting.cancel()
        await until_idle()
        assert (streams.seen[-1], waiting.done()) == ("one cleans", False)
        streams.clean.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert_no_leaks(streams.runtime.lanes)
        assert streams.seen[-2:] == ENDED
        with pytest.raises(StopAsyncIteration):
            await anext(items)

    async def test_while_it_works_between_items(self) -> None:
        """Leaving the block closes the stream."""
        streams = Streams()
        working = asyncio.Event()

        async def consume() -> None:
            async with aclosing(streams.open("a")) as items:
                async for _ in items:
                    working.set()
                    await asyncio.Event().wait()

        consumer = asyncio.create_task(consume())
        await working.wait()
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        assert_no_leaks(streams.runtime.lanes)
        assert streams.seen[-2:] == ENDED

    @pytest.mark.parametrize("how", ["interrupt", "timeout"])
    @pytest.mark.parametrize("given", [0, 1])
    async def test_while_the_turn_that_was_ended_for_it_cleans_up(self, how: str, given: int) -> None:
        """The lanes have cancelled the turn already, before its first item or later: its cleanup is not cut by ours."""
        runtime = Runtime()
        seen: list[str] = []
        cleaning, clean = asyncio.Event(), asyncio.Event()

        @runtime.agent_turn(key="key", turn_timeout=0.1 if how == "timeout" else None)
        async def stream(key: str) -> AsyncIterator[int]:
            try:
                for number in range(given):
                    yield number
                await asyncio.Event().wait()
            finally:
                cleaning.set()
                await clean.wait()
                seen.append("cleaned")

        items = stream("a")
        for number in range(given):
            assert await anext(items) == number
        waiting = asyncio.ensure_future(anext(items))
        await until_idle()
        if how == "interrupt":
            runtime.lanes.interrupt("a", grace=0)
        await cleaning.wait()
        waiting.cancel()
        await until_idle()
        clean.set()
        await asyncio.gather(waiting, return_exceptions=True)
        await until_idle()
        assert seen == ["cleaned"]
        assert_no_leaks(runtime.lanes)

    async def test_twice(self) -> None:
        """The second cancellation ends the consumer at once; the cleanup still ends before the lane goes."""
        streams = Streams()
        items = streams.open("a")
        await anext(items)
        streams.item.clear()
        streams.clean.clear()
        waiting = asyncio.ensure_future(anext(items))
        await until_idle()
        for _ in range(2):
            waiting.cancel()
            await until_idle()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert streams.runtime.lanes.statistics().running == 1
        streams.clean.set()
        assert (await streams.settled())[-2:] == ENDED


class TestAbandoned:
    """Nobody closes it."""

    @pytest.mark.parametrize("asked", [0, 1, 2])
    async def test_a_generator_that_is_dropped_frees_its_lane(self, asked: int) -> None:
        """As soon as it is collected, whatever was read of it."""
        streams = Streams()
        items: AsyncGenerator[int, None] | None = streams.open("a")
        for _ in range(asked):
            assert items is not None
            await anext(items)
        items = None
        gc.collect()
        seen = await streams.settled()
        assert seen[-2:] == (ENDED if asked else [])

    async def test_in_a_cycle_of_references_it_is_freed_by_the_collector(self) -> None:
        """Not only by the last reference."""
        streams = Streams()
        knot: list[object] = []
        items = streams.open("a")
        await anext(items)
        knot.extend([knot, items])
        del knot, items
        gc.collect()
        assert (await streams.settled())[-2:] == ENDED

    async def test_cleanup_of_an_abandoned_one_comes_before_the_successor(self) -> None:
        """The lane is not freed by the drop, but by the end of the cleanup."""
        streams = Streams()
        items: AsyncGenerator[int, None] | None = streams.open("a", "first")
        assert items is not None
        await anext(items)
        following = asyncio.ensure_future(anext(second := streams.open("a", "second")))
        streams.clean.clear()
        items = None
        gc.collect()
        await until_idle()
        assert streams.seen[-1] == "first cleans"
        streams.clean.set()
        assert await following == 0
        await second.aclose()
        assert streams.seen.index("first ends") < streams.seen.index("second begins")
