"""Threads that stay in turns: what interrupts and cancels them, and where their generators are closed."""

import asyncio
import gc
import logging
import signal
import threading
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from support.blocks import LONGEST, Block, Steps, counting, is_free, opened, set_by, turn_of, use
from turnlane import Interrupt, Runtime, current_turn
from turnlane.errors import LaneBusy, TurnInterrupted
from turnlane.hooks import TurnFinished, TurnQueued, TurnStarted
from turnlane_integrations._blocking import Blocking

words: ContextVar[str] = ContextVar("words", default="none")


@pytest.fixture
def threads() -> Generator[ThreadPoolExecutor, None, None]:
    with ThreadPoolExecutor() as found:
        yield found


def test_a_block_is_in_the_context_of_its_turn_and_that_of_its_thread() -> None:
    """What was set in the thread is seen in the task, and the turn in the thread."""
    runtime = Runtime()
    blocking = Blocking(runtime)
    seen: Steps = []

    @asynccontextmanager
    async def noted() -> AsyncGenerator[None, None]:
        seen.append(words.get())
        async with runtime.turn("k"):
            words.set("of the task")
            yield

    token = words.set("of the thread")
    with blocking.inside(noted, instead="it") as stay:
        turn = stay.call(current_turn)
        assert turn is not None
        assert turn.key == "k"
        with pytest.raises(LaneBusy), turn_of(blocking, runtime, policy="reject"):
            raise AssertionError
        stay.call(Block.__call__, opened(), turn_of(blocking, runtime))  # joins
        seen.append(stay.call(words.get))
    words.reset(token)
    assert seen == ["of the thread", "of the task"]
    blocking.close()


# -- interrupts


class Interrupted:
    """The main thread is sent a signal, as by a key, when something happens."""

    def __call__(self, *_: object) -> None:
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, signal.SIGINT)


@pytest.fixture
def interrupted() -> Generator[Interrupted, None, None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Interrupted()
    signal.signal(signal.SIGINT, before)


def test_who_is_interrupted_while_it_waits_leaves_the_line(
    interrupted: Interrupted, threads: ThreadPoolExecutor
) -> None:
    """It is not let in when its turn has come, and has left when the interrupt is told."""
    runtime, block = Runtime(), Block()
    blocking = Blocking(runtime)
    started: Steps = []
    runtime.hooks.on(TurnStarted, lambda event: started.append(event.key))
    running = threads.submit(block, turn_of(blocking, runtime))
    assert block.entered.wait(LONGEST)
    runtime.hooks.on(TurnQueued, interrupted)
    with pytest.raises(KeyboardInterrupt), turn_of(blocking, runtime):
        raise AssertionError
    assert runtime.lanes.statistics().waiting == 0
    block.go.set()
    running.result(LONGEST)
    assert started == ["k"]
    blocking.close()


def test_who_is_interrupted_in_the_moment_of_entering_does_not_stay_inside(interrupted: Interrupted) -> None:
    """The lane was handed over already."""
    runtime = Runtime()
    blocking = Blocking(runtime)
    runtime.hooks.on(TurnStarted, interrupted)
    with suppress(KeyboardInterrupt), turn_of(blocking, runtime):
        pass
    assert is_free(runtime)
    blocking.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_thread_is_a_cancellation_of_its_turn(error: type[BaseException]) -> None:
    """The loop goes on, and the lane is free."""
    runtime = Runtime()
    blocking = Blocking(runtime)
    finished: Steps = []
    runtime.hooks.on(TurnFinished, lambda event: finished.append(event.outcome))
    with pytest.raises(error), turn_of(blocking, runtime):
        raise error
    assert is_free(runtime)
    with turn_of(blocking, runtime):
        pass
    assert finished == ["cancelled", "completed"]
    blocking.close()


def test_a_reader_that_is_interrupted_cancels_what_it_reads(interrupted: Interrupted) -> None:
    """What was there before is read, and the generator has ended when the interrupt is told."""
    blocking = Blocking()
    steps: Steps = []
    found: list[int] = []

    async def held() -> AsyncGenerator[int, None]:
        asked = asyncio.Event()
        async for number in counting(steps, hold=asked):
            yield number
            if number == 2:
                interrupted()

    with pytest.raises(KeyboardInterrupt):
        found.extend(blocking.iterate(held, instead="it"))
    assert steps == ["CancelledError", "ended"]
    blocking.close()


# -- what a turn and its block tell each other


def test_an_error_keeps_its_cause() -> None:
    """Which a task in between must not replace."""
    runtime = Runtime()
    blocking = Blocking(runtime)

    @asynccontextmanager
    async def refusing() -> AsyncGenerator[None, None]:
        raise ValueError("refused") from KeyError("why")
        yield

    async def failing() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("refused") from KeyError("why")

    for wait in (
        lambda: blocking.inside(refusing, instead="it").__enter__(),
        lambda: list(blocking.iterate(failing, instead="it")),
    ):
        with pytest.raises(ValueError, match="refused") as caught:
            wait()
        assert isinstance(caught.value.__cause__, KeyError)
    error = ValueError("of the block")
    with pytest.raises(ValueError, match="of the block") as raised, turn_of(blocking, runtime):
        raise error from KeyError("why")
    assert raised.value is error
    assert isinstance(error.__cause__, KeyError)
    blocking.close()


@pytest.mark.parametrize("before", [False, True])
async def test_a_host_that_is_cancelled_takes_its_thread_out_of_the_line(before: bool) -> None:
    """Also if it was so before the thread asks. The lanes need not be in the loop that has started the thread."""
    runtime, block = Runtime(), Block()
    blocking = Blocking(runtime)
    with ThreadPoolExecutor() as threads, ExitStack() as stack:
        portal = await asyncio.to_thread(stack.enter_context, start_blocking_portal())
        await asyncio.to_thread(portal.call, use, runtime)
        running = threads.submit(block, turn_of(blocking, runtime))
        assert await asyncio.to_thread(block.entered.wait, LONGEST)
        queued = set_by(runtime, TurnQueued)
        asking, ask = threading.Event(), threading.Event()

        def work() -> None:
            asking.set()
            assert ask.wait(LONGEST)
            with turn_of(blocking, runtime):
                raise AssertionError

        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, work)
            assert await asyncio.to_thread(asking.wait, LONGEST)
            if before:
                group.cancel_scope.cancel()
            ask.set()
            if not before:
                assert await asyncio.to_thread(queued.wait, LONGEST)
                group.cancel_scope.cancel()
        assert runtime.lanes.statistics().waiting == 0
        block.go.set()
        await asyncio.wrap_future(running)
        await asyncio.to_thread(stack.close)


@pytest.mark.parametrize("cut_again", [False, True])
async def test_a_turn_is_not_left_before_its_block_has_ended(cut_again: bool) -> None:
    """However often it is cancelled, and while it asks for its end."""
    runtime, block = Runtime(), Block()
    blocking = Blocking(runtime)
    asked: asyncio.Queue[object] = asyncio.Queue()
    tasks: list[asyncio.Task[object] | None] = []

    @asynccontextmanager
    async def noted() -> AsyncGenerator[None, None]:
        tasks.append(asyncio.current_task())
        async with runtime.turn("k"):
            yield

    async def ask() -> None:
        asked.put_nowait(None)
        await asyncio.Event().wait()

    inside = blocking.inside(noted, instead="it", on_cancel=ask)
    running = asyncio.create_task(asyncio.to_thread(block, inside))
    assert await asyncio.to_thread(block.entered.wait, LONGEST)
    (task,) = tasks
    assert task is not None
    for _ in range(1 + cut_again):
        task.cancel()
        await asked.get()
    assert runtime.lanes.statistics().running == 1
    block.go.set()
    stay = await running  # nothing else is told: what it has done is done
    assert stay.is_cut
    assert is_free(runtime)


async def test_an_interruption_is_told_when_the_block_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    """Also if it could not be asked to end; that is in the log."""
    caplog.set_level(logging.ERROR, "turnlane.integrations")
    runtime, block = Runtime(), Block()
    blocking = Blocking(runtime)
    asked = asyncio.Event()

    async def ask() -> None:
        asked.set()
        raise ConnectionError("nobody is there")

    inside = blocking.inside(partial(runtime.turn, "k"), instead="it", on_cancel=ask)
    running = asyncio.create_task(asyncio.to_thread(block, inside))
    assert await asyncio.to_thread(block.entered.wait, LONGEST)
    following = asyncio.create_task(use_after(runtime, Interrupt(grace=0)))
    await asked.wait()
    assert runtime.lanes.statistics().running == 1
    block.go.set()
    with pytest.raises(TurnInterrupted):
        await running
    await following
    assert [record.message for record in caplog.records] == ["cancel_not_passed_on"]


async def use_after(runtime: Runtime, policy: Interrupt) -> None:
    async with runtime.turn("k", policy=policy):
        pass


# -- generators that are closed or dropped where nobody waits


@pytest.mark.parametrize("drop", [False, True])
async def test_a_generator_can_be_closed_in_the_loop_of_its_turn(drop: bool) -> None:
    """That has to go on, or the turn would never end."""
    runtime = Runtime()
    blocking = Blocking(runtime)

    async def numbers() -> AsyncGenerator[int, None]:
        async with runtime.turn("k"):
            yield 1
            await asyncio.Event().wait()

    def blocks() -> Generator[int, None, None]:
        with turn_of(blocking, runtime):
            yield 1
            yield 2

    for make in (blocks, partial(blocking.iterate, numbers, instead="it")):
        generator = make()
        assert await asyncio.to_thread(next, generator) == 1
        if not drop:
            generator.close()
        del generator
        gc.collect()
        async with asyncio.timeout(LONGEST), runtime.turn("k"):
            pass
