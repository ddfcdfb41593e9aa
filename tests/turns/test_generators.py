"""Generator turns: order, items one at a time, the end, errors, context."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest

from support.turns_steps import held, until_idle
from support.turns_streams import Streams
from turnlane import Reject, Runtime
from turnlane.errors import LaneBusy, LaneReentry, LanesDraining
from turnlane.testing import assert_no_leaks

VARIABLE: ContextVar[str] = ContextVar("variable", default="outside")


class TestOrder:
    """When the place in line is taken."""

    async def test_it_is_fixed_by_the_first_request_for_an_item(self) -> None:
        """Not by the call, and not later: two that ask one after the other run in that order."""
        streams = Streams(count=1)
        async with held(streams.runtime.lanes, "a") as release:
            late, early = streams.open("a", "late"), streams.open("a", "early")
            first = asyncio.ensure_future(anext(early))
            await asyncio.sleep(0)  # one step is all it takes
            assert streams.runtime.lanes.statistics().waiting == 1
            second = asyncio.ensure_future(anext(late))
            await asyncio.sleep(0)
            assert streams.runtime.lanes.statistics().waiting == 2
            await until_idle()
            assert streams.seen == []
            release.set()
            assert await first == 0
            await early.aclose()
            assert await second == 0
            await late.aclose()
        begun = [each for each in await streams.settled() if each.endswith("begins")]
        assert begun == ["early begins", "late begins"]

    async def test_coroutine_turns_and_generator_turns_stand_in_one_line(self) -> None:
        """By arrival, whichever kind."""
        streams = Streams(count=1)

        @streams.runtime.agent_turn(key="key")
        async def answer(key: str, name: str) -> None:
            streams.seen.append(f"{name} begins")

        async def read(name: str) -> None:
            async for _ in streams.open("a", name):
                pass

        async with held(streams.runtime.lanes, "a"):
            tasks: list[asyncio.Task[None]] = []
            for work in (read("1"), answer("a", "2"), read("3"), answer("a", "4")):
                tasks.append(asyncio.ensure_future(work))
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        begun = [each for each in await streams.settled() if each.endswith("begins")]
        assert begun == ["1 begins", "2 begins", "3 begins", "4 begins"]

    async def test_two_consumers_of_one_key_get_their_streams_one_after_the_other(self) -> None:
        """The second stream begins when the first has cleaned up; a third key does not wait."""
        streams = Streams(count=2)
        first, second, other = streams.open("a", "first"), streams.open("a", "second"), streams.open("b", "other")
        assert await anext(first) == 0
        waiting = asyncio.ensure_future(anext(second))
        assert await anext(other) == 0
        assert not waiting.done()
        streams.clean.clear()
        closing = asyncio.ensure_future(first.aclose())
        await until_idle()
        assert "first cleans" in streams.seen
        assert not waiting.done()
        streams.clean.set()
        await closing
        assert await waiting == 0
        assert [item async for item in second] == [1]
        assert [item async for item in other] == [1]
        seen = await streams.settled()
        assert seen.index("first ends") < seen.index("second begins")

    async def test_the_policy_refuses_at_the_first_request(self) -> None:
        """A busy lane under Reject, and lanes that drain; nothing ran, nothing is left."""
        streams = Streams(policy=Reject())
        async with held(streams.runtime.lanes, "a"):
            with pytest.raises(LaneBusy):
                await anext(streams.open("a"))
        await streams.runtime.drain()
        with pytest.raises(LanesDraining):
            await anext(streams.open("a"))
        assert await streams.settled() == []
        assert len(asyncio.all_tasks()) == 1

    async def test_draining_ends_the_wait_for_the_first_item(self) -> None:
        """The consumer is told at once, the running stream goes on."""
        streams = Streams()
        running, waiting = streams.open("a"), asyncio.ensure_future(anext(streams.open("a", "two")))
        first = asyncio.ensure_future(anext(running))
        await until_idle()
        assert {first.done(), waiting.done()} == {True, False}
        assert await streams.runtime.drain(timeout=0) == 1
        pending = waiting if first.done() else first
        with pytest.raises(LanesDraining):
            await pending

    async def test_a_cycle_of_lanes_is_refused(self) -> None:
        """A generator turn nested in a turn is part of its chain."""
        runtime = Runtime()

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[str]:
            async with runtime.turn("a"):
                yield key

        async with runtime.turn("a"):
            with pytest.raises(LaneReentry):
                await anext(stream("b"))
        assert_no_leaks(runtime.lanes)


class TestItems:
    """Handing over."""

    async def test_all_items_arrive_in_order_and_then_it_ends(self) -> None:
        """The lane is free when the consumer has seen the end."""
        streams = Streams(count=100)
        items = streams.open("a")
        assert [item async for item in items] == list(range(100))
        assert_no_leaks(streams.runtime.lanes)
        assert streams.outcomes == ["completed"]
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        await items.aclose()

    async def test_the_producer_never_runs_ahead(self) -> None:
        """It stands at its `yield` until the next item is asked for, as without a lane."""
        streams = Streams()
        items = streams.open("a")
        await until_idle()
        assert streams.seen == []
        for number in range(3):
            assert await anext(items) == number
            await until_idle()
            assert streams.seen[-1] == f"one gives {number}"
        assert streams.runtime.lanes.statistics().running == 1
        assert await anext(items, None) is None

    async def test_a_generator_that_gives_nothing_ends_at_once(self) -> None:
        """One turn, no item."""
        streams = Streams(count=0)
        assert [item async for item in streams.open("a")] == []
        assert await streams.settled() == ["one begins", "one cleans", "one ends"]

    async def test_items_may_be_anything(self) -> None:
        """None, exceptions and futures are handed over as they are."""
        runtime = Runtime()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        given = [None, StopAsyncIteration(), KeyError("k"), future, asyncio.CancelledError(), False]

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[object]:
            for item in given:
                yield item

        found = [item async for item in stream("a")]
        assert all(one is other for one, other in zip(found, given, strict=True))

    async def test_a_slow_generator_is_waited_for(self) -> None:
        """The idle timeout is the consumer's, not the producer's."""
        streams = Streams(idle_consumer_timeout=0.1)
        items = streams.open("a")
        await anext(items)
        streams.item.clear()
        waiting = asyncio.ensure_future(anext(items))
        asyncio.get_running_loop().call_later(0.15, streams.item.set)
        assert await waiting == 1
        await items.aclose()

    async def test_waiting_for_the_lane_does_not_count_as_idle(self) -> None:
        """A consumer that waits in line has asked."""
        streams = Streams(idle_consumer_timeout=0.01)
        async with held(streams.runtime.lanes, "a") as release:
            waiting = asyncio.ensure_future(anext(items := streams.open("a")))
            asyncio.get_running_loop().call_later(0.03, release.set)
            assert await waiting == 0
        await items.aclose()

    async def test_another_task_may_read_on(self) -> None:
        """The items belong to who asks."""
        streams = Streams()
        items = streams.open("a")
        found = [await anext(items), await asyncio.create_task(anext(items)), await anext(items)]
        assert found == [0, 1, 2]
        assert [item async for item in items] == []

    @pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="tasks start at once since Python 3.12")
    async def test_items_arrive_where_tasks_start_at_once(self) -> None:
        """With `asyncio.eager_task_factory` no item is lost, and the place in line is taken once."""
        asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009  since 3.12
        streams = Streams()
        async with held(streams.runtime.lanes, "a") as release:
            waiting = asyncio.ensure_future(anext(items := streams.open("a")))
            assert streams.runtime.lanes.statistics().waiting == 1
            release.set()
            assert await waiting == 0
        assert [item async for item in items] == [1, 2]
        assert [item async for item in streams.open("b")] == [0, 1, 2]
        await streams.settled()
        assert streams.outcomes == ["completed"] * 3

    async def test_two_tasks_can_not_ask_at_the_same_time(self) -> None:
        """Python says so, and the stream goes on for the first."""
        streams = Streams()
        items = streams.open("a")
        await anext(items)
        streams.item.clear()
        first = asyncio.ensure_future(anext(items))
        await until_idle()
        with pytest.raises(RuntimeError, match="already running"):
            await anext(items)
        streams.item.set()
        assert await first == 1
        await items.aclose()

    async def test_values_sent_in_do_not_reach_the_function(self) -> None:
        """As documented: `asend` is the next item."""
        runtime = Runtime()
        got: list[object] = []

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncGenerator[int, object]:
            for number in range(3):
                got.extend([(yield number)])

        items: Any = stream("a")
        assert [await items.asend(None), await items.asend("one"), await items.asend("two")] == [0, 1, 2]
        await items.aclose()
        assert got == [None, None]
