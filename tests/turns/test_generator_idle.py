"""Generator turns whose consumer does not ask for the next item."""

import asyncio
import time

import pytest

from support.turns_steps import until_idle
from support.turns_streams import Streams
from turnlane.errors import ConsumerIdle
from turnlane.hooks import TurnFinished
from turnlane.testing import assert_no_leaks

ENDED = ["one cleans", "one ends"]


class TestIdleConsumer:
    """`idle_consumer_timeout`."""

    async def test_who_does_not_ask_loses_the_turn(self) -> None:
        """The lane is freed after the cleanup; the next request for an item says why."""
        streams = Streams(idle_consumer_timeout=0.01)
        items = streams.open("a")
        await anext(items)
        finished = await streams.gates.at(TurnFinished).reached()
        assert streams.seen[-2:] == ENDED
        assert_no_leaks(streams.runtime.lanes)
        with pytest.raises(ConsumerIdle) as caught:
            await anext(items)
        assert (caught.value.key, caught.value.turn) == ("a", finished.turn)
        assert caught.value.idle_consumer_timeout == 0.01
        assert "asked for nothing for 0.01 s" in str(caught.value)
        with pytest.raises(StopAsyncIteration):
            await anext(items)

    async def test_the_successor_runs_without_the_consumers_help(self) -> None:
        """A reader that hangs does not block a conversation for ever."""
        streams = Streams(idle_consumer_timeout=0.01)
        stuck = streams.open("a", "stuck")
        await anext(stuck)
        second = streams.open("a", "second")
        assert await anext(second) == 0
        await second.aclose()
        await stuck.aclose()
        assert streams.seen.index("stuck ends") < streams.seen.index("second begins")

    async def test_asking_while_it_cleans_up_waits_for_that(self) -> None:
        """Then the error comes, and the lane is free."""
        streams = Streams(idle_consumer_timeout=0.01)
        streams.clean.clear()
        items = streams.open("a")
        await anext(items)
        await streams.cleaning.wait()
        asked = asyncio.ensure_future(anext(items))
        await until_idle()
        assert not asked.done()
        streams.clean.set()
        with pytest.raises(ConsumerIdle):
            await asked
        assert_no_leaks(streams.runtime.lanes)

    @pytest.mark.parametrize("how", ["close", "cancel"])
    async def test_a_cleanup_under_way_is_not_cut_by_closing(self, how: str) -> None:
        """The consumer comes back and leaves for good, or is cancelled while it asks: the cleanup still ends."""
        streams = Streams(idle_consumer_timeout=0.01)
        streams.clean.clear()
        items = streams.open("a")
        await anext(items)
        await streams.cleaning.wait()
        leaving = asyncio.ensure_future(items.aclose() if how == "close" else anext(items, None))
        await until_idle()
        if how == "cancel":
            leaving.cancel()
            await until_idle()
        streams.clean.set()
        await asyncio.gather(leaving, return_exceptions=True)
        assert (await streams.settled())[-1] == "one ends"

    async def test_every_item_is_given_the_whole_time(self) -> None:
        """The clock starts anew at each hand-over."""
        streams = Streams(idle_consumer_timeout=0.6)
        found: list[int] = []
        async for item in streams.open("a"):
            found.append(item)
            await asyncio.sleep(0.25)  # three times this is more than the timeout
        assert found == [0, 1, 2]
        assert streams.outcomes == ["completed"]

    @pytest.mark.parametrize("steps", [1, 2])
    async def test_who_asks_as_soon_as_the_loop_lets_it_is_in_time(self, steps: int) -> None:
        """Somebody else blocks the loop for longer than the timeout: that is not the consumer's doing."""
        streams = Streams(idle_consumer_timeout=0.02)
        items = streams.open("a")
        await anext(items)
        asyncio.get_running_loop().call_soon(time.sleep, 0.03)
        for _ in range(steps):
            await asyncio.sleep(0)
        assert await anext(items) == 1
        await items.aclose()
        assert streams.outcomes == ["cancelled"]

    async def test_no_timer_is_left_behind(self) -> None:
        """Reading to the end, or closing, disarms it: nothing fires afterwards."""
        streams = Streams(idle_consumer_timeout=0.1)
        assert [item async for item in streams.open("a")] == [0, 1, 2]
        items = streams.open("a", "two")
        await anext(items)
        await items.aclose()
        before = len(streams.gates.events)
        await asyncio.sleep(0.15)
        assert len(streams.gates.events) == before
