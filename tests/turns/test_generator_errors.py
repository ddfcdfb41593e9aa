"""What leaves a generator turn: errors, interruptions, timeouts; and whose context is whose."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar

import pytest

from support.turns_steps import until_idle
from support.turns_streams import Streams, finished_as
from turnlane import Interrupt, Lanes, Runtime, Turn, current_turn
from turnlane.errors import TurnInterrupted, TurnTimeout
from turnlane.testing import assert_no_leaks

VARIABLE: ContextVar[str] = ContextVar("variable", default="outside")


class TestErrors:
    """What leaves the generator."""

    @pytest.mark.parametrize("after", [0, 2])
    async def test_an_exception_reaches_the_consumer(self, after: int) -> None:
        """The very object, after the items that came before it; the lane is free."""
        runtime = Runtime()
        error = KeyError("mine")

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[int]:
            for number in range(after):
                yield number
            raise error

        found: list[int] = []

        async def consume() -> None:
            async for item in stream("a"):
                found.append(item)  # noqa: PERF401  what came before the error counts

        with pytest.raises(KeyError) as caught:
            await consume()
        assert caught.value is error
        assert found == list(range(after))
        assert_no_leaks(runtime.lanes)
        assert finished_as(runtime) == {"failed": 1}

    @pytest.mark.parametrize("error", [StopIteration("x"), StopAsyncIteration("x")])
    async def test_a_stop_inside_is_a_runtime_error_as_in_any_generator(self, error: Exception) -> None:
        """It never looks like the end of the stream."""
        runtime = Runtime()

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[int]:
            yield 1
            raise error

        items = stream("a")
        assert await anext(items) == 1
        with pytest.raises(RuntimeError, match="async generator raised Stop") as caught:
            await anext(items)
        assert caught.value.__cause__ is error
        assert_no_leaks(runtime.lanes)

    async def test_a_cancellation_inside_reaches_the_consumer(self) -> None:
        """A generator that awaits something cancelled ends with that, as without a lane."""
        runtime = Runtime()

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[int]:
            yield 1
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        items = stream("a")
        assert await anext(items) == 1
        with pytest.raises(asyncio.CancelledError):
            await anext(items)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert finished_as(runtime) == {"cancelled": 1}

    async def test_an_exception_of_the_cleanup_reaches_who_closes(self) -> None:
        """And the lane is free."""
        runtime = Runtime()

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                raise OSError("flush")

        items = stream("a")
        await anext(items)
        with pytest.raises(OSError, match="flush"):
            await items.aclose()
        with pytest.raises(OSError, match="flush"):
            async for _ in stream("a"):
                pass
        assert_no_leaks(runtime.lanes)
        assert finished_as(runtime) == {"failed": 2}

    async def test_a_turn_timeout_reaches_the_consumer_that_waits(self) -> None:
        """After the generator's cleanup."""
        streams = Streams(turn_timeout=0.1)
        streams.item.clear()
        items = streams.open("a")
        await anext(items)
        with pytest.raises(TurnTimeout) as caught:
            await anext(items)
        assert (caught.value.turn, caught.value.turn_timeout) == (streams.turns[0].id, 0.1)
        assert (await streams.settled())[-1] == "one ends"
        assert streams.outcomes == ["timed_out"]

    async def test_a_turn_timeout_between_items_is_told_at_the_next_request(self) -> None:
        """The lane is free before the consumer notices."""
        streams = Streams(turn_timeout=0.1)
        items = streams.open("a")
        await anext(items)
        while not streams.outcomes:
            await streams.gates.next_event()
        assert_no_leaks(streams.runtime.lanes)
        with pytest.raises(TurnTimeout):
            await anext(items)
        with pytest.raises(StopAsyncIteration):
            await anext(items)

    @pytest.mark.parametrize("waiting", [True, False])
    async def test_an_interruption_reaches_the_consumer(self, waiting: bool) -> None:
        """Whether it waits for an item or has not asked; the successor comes after the cleanup."""
        streams = Streams()
        items = streams.open("a", "old")
        await anext(items)
        streams.item.clear()
        asked = asyncio.ensure_future(anext(items)) if waiting else None
        await until_idle()
        streams.clean.clear()
        newcomer = Streams(streams.runtime, count=1, policy=Interrupt(grace=0))
        successor = asyncio.ensure_future(anext(newer := newcomer.open("a", "new")))
        await until_idle()
        assert streams.turns[0].interrupted
        assert newcomer.seen == []
        streams.clean.set()
        assert await successor == 0
        await newer.aclose()
        with pytest.raises(TurnInterrupted) as caught:
            await (anext(items) if asked is None else asked)
        assert (caught.value.into, caught.value.running) == (newcomer.turns[0].id, True)
        assert (await streams.settled())[-1] == "old ends"

    async def test_a_generator_may_say_last_words_when_it_is_interrupted(self) -> None:
        """One that catches the cancellation gives them to the consumer that waits."""
        runtime = Runtime()

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[str]:
            yield "one"
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                yield "stopped"
                raise

        items = stream("a")
        assert await anext(items) == "one"
        asked = asyncio.ensure_future(anext(items))
        await until_idle()
        assert runtime.lanes.interrupt("a", grace=0)
        assert await asked == "stopped"
        with pytest.raises(TurnInterrupted):
            await anext(items)
        assert_no_leaks(runtime.lanes)


class TestContext:
    """Whose context variables are seen where."""

    async def test_the_consumers_context_does_not_change(self) -> None:
        """Neither by the turn nor by what the generator sets; the generator keeps its own."""
        runtime = Runtime()

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[tuple[str, bool]]:
            for number in range(3):
                before = VARIABLE.get()
                VARIABLE.set(f"inside {number}")
                yield before, current_turn() is not None

        found: list[tuple[str, bool]] = []
        VARIABLE.set("consumer")
        async for item in stream("a"):
            found.append(item)
            assert VARIABLE.get() == "consumer"
            assert current_turn() is None
        assert found == [("consumer", True), ("inside 0", True), ("inside 1", True)]
        VARIABLE.set("outside")

    async def test_the_generator_runs_in_one_task_that_is_its_turns(self) -> None:
        """Also its cleanup, whoever closes it: cancel scopes and timeouts may stand around a `yield`."""
        runtime = Runtime()
        tasks: list[asyncio.Task[object] | None] = []

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[None]:
            async with asyncio.timeout(60):
                tasks.append(asyncio.current_task())
                try:
                    yield
                    yield
                finally:
                    tasks.append(asyncio.current_task())

        items = stream("a")
        await anext(items)
        await asyncio.create_task(anext(items))
        await asyncio.create_task(items.aclose())
        assert tasks[0] is tasks[1] is not asyncio.current_task()

    async def test_a_generator_inside_a_turn_of_another_key_is_nested_in_it(self) -> None:
        """It joins the outer turn when it asks for its key, and uses its running slot."""
        runtime = Runtime(lanes=Lanes(max_running=1))

        @runtime.agent_turn(key="key")
        async def answer(key: str, *, turn: Turn) -> object:
            return turn

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[object]:
            yield await answer("a")

        async with runtime.turn("a") as outer:
            assert [item async for item in stream("b")] == [outer]
        assert_no_leaks(runtime.lanes)
