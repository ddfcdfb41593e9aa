"""Turns that wait for worker threads, which no cancellation can stop."""

# pyright: reportPrivateUsage=false

import asyncio
import functools
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread
import pytest
from starlette.concurrency import run_in_threadpool

from support.lanes_invariants import leftovers
from turnlane import Lanes, Runtime, errors, stacks

InThread = Callable[[Callable[[], object]], Awaitable[object]]
WAYS: list[InThread] = [asyncio.to_thread, anyio.to_thread.run_sync, run_in_threadpool]


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if sys.platform != "win32":
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


class Threads:
    """Work for threads that tells when it begins and ends when it is told to."""

    def __init__(self) -> None:
        self.began, self.release = threading.Semaphore(0), threading.Semaphore(0)
        self.steps: list[str] = []

    def work(self, name: str) -> None:
        self.steps.append(f"{name} began")
        self.began.release()
        assert self.release.acquire(timeout=10)
        self.steps.append(f"{name} ended")

    async def under_way(self) -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, functools.partial(self.began.acquire, timeout=5))


async def interrupt_at_once(lanes: Lanes) -> None:
    """Interrupt the turn of a, and return when its grace is over."""
    lanes.interrupt("a", grace=0)
    holder = lanes.gate.table.holders["a"]
    while holder._end is not None and holder._end.timer is not None:  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(0)


async def time_over(lanes: Lanes) -> None:
    """Return when the timeout of the turn of a has rung."""
    holder = lanes.gate.table.holders["a"]
    while holder._end is None or holder._end.kind is None:  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(0)


async def interrupted_in_the_first(in_thread: InThread) -> None:
    """Interrupt a turn that goes from thread to thread while it waits for the first."""
    lanes, threads = Lanes(), Threads()

    async def turn() -> None:
        async with lanes.turn("a"):
            await in_thread(lambda: threads.work("first"))
            await in_thread(lambda: threads.work("second"))

    async def successor() -> None:
        async with lanes.turn("a"):
            threads.steps.append("successor")

    running = asyncio.create_task(turn())
    await threads.under_way()
    waiting = asyncio.create_task(successor())
    await interrupt_at_once(lanes)
    assert not running.done()
    threads.release.release(2)
    with pytest.raises(errors.TurnInterrupted):
        await running
    await waiting
    assert threads.steps == ["first began", "first ended", "successor"]
    assert leftovers(lanes) == []


@pytest.mark.parametrize("in_thread", WAYS, ids=["asyncio", "anyio", "starlette"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_turn_between_two_threads_is_cancelled(loop: str, in_thread: InThread) -> None:
    """The thread it was cancelled in ends, and the next one does not begin."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(interrupted_in_the_first(in_thread))


async def test_a_cancellation_of_others_while_it_waits_for_the_thread_wins() -> None:
    """Who cancels the task itself has it as ever: what leaves the turn is a cancellation, once."""
    lanes, threads = Lanes(), Threads()

    async def turn() -> None:
        async with lanes.turn("a"):
            await asyncio.to_thread(threads.work, "first")

    running = asyncio.create_task(turn())
    await threads.under_way()
    await interrupt_at_once(lanes)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert running.cancelling() == 1
    threads.release.release()
    assert leftovers(lanes) == []


async def test_without_the_inside_of_asyncio_the_end_of_the_thread_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a future does not show its callbacks, a turn is cancelled at a look after its thread has ended."""
    looked, ended = asyncio.Event(), asyncio.Event()

    def look(*_: object) -> bool:
        looked.set()
        return False

    monkeypatch.setattr("turnlane.lanes.endings.before_resuming", look)
    lanes, threads = Lanes(), Threads()

    async def turn() -> None:
        async with lanes.turn("a"):
            await asyncio.to_thread(threads.work, "first")
            await ended.wait()

    running = asyncio.create_task(turn())
    await threads.under_way()
    lanes.interrupt("a", grace=0)
    await looked.wait()
    threads.release.release()
    with pytest.raises(errors.TurnInterrupted):
        await running
    assert threads.steps == ["first began", "first ended"]


async def test_before_resuming_is_called_between_the_future_and_its_task() -> None:
    """The callback runs once the future is done and before its task has gone on; others keep their order."""
    steps: list[str] = []
    future = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await future
        steps.append("task")

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    future.add_done_callback(lambda _: steps.append("later"))
    assert stacks.before_resuming(task, lambda _: steps.append("before"))
    future.set_result(None)
    await task
    assert steps == ["before", "task", "later"]
    assert not stacks.before_resuming(task, lambda _: steps.append("never"))


async def test_before_resuming_refuses_a_task_that_waits_for_nothing() -> None:
    """One that has not begun, or that has been woken already."""
    task = asyncio.create_task(asyncio.sleep(0))
    assert not stacks.before_resuming(task, lambda _: None)
    await task


@pytest.mark.parametrize("how", ["generator", "context manager", "awaitable", "agent_turn"])
async def test_a_thread_behind_a_generator_is_waited_for(how: str) -> None:
    """As an endpoint's dependency that yields has one, and every generator that uses threads."""
    runtime, threads = Runtime(), Threads()

    async def items() -> AsyncGenerator[int, None]:
        await asyncio.to_thread(threads.work, "first")
        yield 1

    class Awaitable:
        def __await__(self) -> Generator[Any, Any, None]:
            return asyncio.to_thread(threads.work, "first").__await__()

    @runtime.agent_turn(key="key")
    async def stream(key: str) -> AsyncIterator[int]:
        async for item in items():
            yield item

    async def turn() -> None:
        if how == "agent_turn":
            assert [item async for item in stream("a")] == [1]
            return
        async with runtime.turn("a"):
            if how == "generator":
                assert [item async for item in items()] == [1]
            elif how == "context manager":
                async with asynccontextmanager(items)():
                    pass
            else:
                await Awaitable()

    async def successor() -> None:
        async with runtime.turn("a"):
            threads.steps.append("successor")

    running = asyncio.create_task(turn())
    await threads.under_way()
    waiting = asyncio.create_task(successor())
    await interrupt_at_once(runtime.lanes)
    assert not running.done()
    threads.release.release()
    with pytest.raises(errors.TurnInterrupted):
        await running
    await waiting
    assert threads.steps == ["first began", "first ended", "successor"]


@pytest.mark.parametrize("limit", ["interrupt", "timeout"])
async def test_the_end_of_a_turn_does_not_melt_into_the_cancellation_of_others(limit: str) -> None:
    """A task group that cancels the thread wait takes that cancellation away; ours still comes."""
    lanes, threads = Lanes(), Threads()
    fail = asyncio.Event()

    async def sibling() -> None:
        await fail.wait()
        raise ValueError("the tool failed")

    async def turn() -> None:
        async with lanes.turn("a", turn_timeout=0.001 if limit == "timeout" else None):
            with suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(sibling())
                    await asyncio.to_thread(threads.work, "first")
            await asyncio.Event().wait()

    running = asyncio.create_task(turn())
    await threads.under_way()
    if limit == "interrupt":
        await interrupt_at_once(lanes)
    else:
        await time_over(lanes)
    fail.set()
    with pytest.raises(errors.TurnInterrupted if limit == "interrupt" else errors.TurnTimeout):
        await running
    threads.release.release()
    assert running.cancelling() == 0
    assert leftovers(lanes) == []


async def test_a_turn_whose_time_is_over_still_hears_an_interruption() -> None:
    """`turn.interrupted` tells its thread to stop, and `wait_interrupted` its cleanup."""
    lanes, threads = Lanes(), Threads()
    heard = asyncio.Event()

    async def turn() -> None:
        async with lanes.turn("a", turn_timeout=0.001) as turn:
            listening = asyncio.create_task(turn.wait_interrupted())
            listening.add_done_callback(lambda _: heard.set())
            await asyncio.to_thread(threads.work, "first")

    running = asyncio.create_task(turn())
    await threads.under_way()
    await time_over(lanes)
    holder = lanes.gate.table.holders["a"]
    assert not holder.interrupted
    assert not lanes.interrupt("a", grace=0)
    assert holder.interrupted
    await heard.wait()
    threads.release.release()
    with pytest.raises(errors.TurnTimeout):
        await running


async def test_a_joined_call_that_outlives_the_block_is_not_cut_in_its_thread() -> None:
    """The lane waits for it, so it waits for the thread; then the call is cancelled."""
    runtime, threads = Runtime(), Threads()
    calls: list[asyncio.Task[None]] = []

    @runtime.agent_turn(key="key")
    async def tool(key: str) -> None:
        await asyncio.to_thread(threads.work, "first")
        await asyncio.to_thread(threads.work, "second")

    async def successor() -> None:
        async with runtime.turn("a"):
            threads.steps.append("successor")

    async with runtime.turn("a"):
        calls.append(asyncio.create_task(tool("a")))
        await threads.under_way()
    waiting = asyncio.create_task(successor())
    await interrupt_at_once(runtime.lanes)
    assert not calls[0].done()
    threads.release.release(2)
    with pytest.raises(errors.TurnInterrupted):
        await calls[0]
    await waiting
    assert threads.steps == ["first began", "first ended", "successor"]


async def test_a_turn_that_only_waits_for_a_free_thread_is_cancelled_at_once() -> None:
    """No thread of its own runs yet."""
    lanes = Lanes()
    limiter = anyio.CapacityLimiter(1)
    await limiter.acquire_on_behalf_of("a stranger")

    async def turn() -> None:
        async with lanes.turn("a", turn_timeout=0.001):
            await anyio.to_thread.run_sync(lambda: None, limiter=limiter)

    with pytest.raises(errors.TurnTimeout):
        await asyncio.wait_for(turn(), 5)
    limiter.release_on_behalf_of("a stranger")
