"""Threads that stay in turns: which event loop has them, and what its end does."""

import asyncio
import gc
import os
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from subprocess import run
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from support.blocks import LONGEST, Block, Steps, counting, is_free, loop_of, opened, set_by, turn_of, use
from turnlane import Runtime
from turnlane.errors import NotConfigured
from turnlane.hooks import TurnQueued
from turnlane_integrations._blocking import Blocking


@pytest.fixture
def threads() -> Generator[ThreadPoolExecutor, None, None]:
    with ThreadPoolExecutor() as found:
        yield found


# -- which one it is


async def test_the_loop_is_found_in_this_order() -> None:
    """The portal's, that of the lanes, the one it was made in, the host's, and one of its own."""
    here = asyncio.get_running_loop()
    runtime = Runtime()
    made_here = Blocking(runtime)
    elsewhere = await asyncio.to_thread(Blocking, runtime)
    with ExitStack() as stack:
        portal = await asyncio.to_thread(stack.enter_context, start_blocking_portal())
        other = await asyncio.to_thread(stack.enter_context, start_blocking_portal())
        assert await asyncio.to_thread(loop_of, made_here) is here
        assert await anyio.to_thread.run_sync(loop_of, elsewhere) is here
        own = await asyncio.to_thread(loop_of, elsewhere)
        assert own is not here
        await asyncio.to_thread(elsewhere.close)
        lanes = await asyncio.to_thread(portal.call, use, runtime)
        assert await asyncio.to_thread(loop_of, made_here) is lanes
        assert await anyio.to_thread.run_sync(loop_of, elsewhere) is lanes
        with_portal = Blocking(runtime, portal=other)
        assert await asyncio.to_thread(loop_of, with_portal) is await asyncio.to_thread(other.call, use, Runtime())
        await asyncio.to_thread(stack.close)
    assert await asyncio.to_thread(loop_of, made_here) is here


async def test_what_need_not_wait_for_this_loop_is_done_in_another_one() -> None:
    """As a checkpointer's write by a graph that runs in the thread of an event loop."""
    blocking = Blocking()
    assert loop_of(blocking) is not asyncio.get_running_loop()
    await asyncio.to_thread(blocking.close)


async def test_what_waits_is_refused_in_the_thread_of_a_loop() -> None:
    """Nothing is begun; what to await is said."""
    runtime = Runtime()
    blocking = Blocking(runtime)
    with pytest.raises(NotConfigured, match="await it here"), turn_of(blocking, runtime):
        raise AssertionError
    with pytest.raises(NotConfigured, match="await it here"):
        next(blocking.iterate(lambda: counting([]), instead="it"))
    assert is_free(runtime)


# -- loops that end


def test_the_end_of_a_loop_waits_for_who_is_inside_and_tells_who_waits(threads: ThreadPoolExecutor) -> None:
    """Nobody is let in beside a thread that still runs."""
    runtime, block = Runtime(), Block()
    blocking = Blocking(runtime)
    steps: Steps = []
    told = threading.Event()

    @asynccontextmanager
    async def noted() -> AsyncGenerator[None, None]:
        async with runtime.turn("k"):
            try:
                yield
            finally:
                steps.append("left")

    async def ask() -> None:
        told.set()

    def work() -> None:
        with blocking.inside(noted, instead="it", on_cancel=ask):
            block.entered.set()
            assert block.go.wait(LONGEST)
            steps.append("block ended")

    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        portal.call(use, runtime)
        running = threads.submit(work)
        assert block.entered.wait(LONGEST)
        queued = set_by(runtime, TurnQueued)
        waiting = threads.submit(opened(), turn_of(blocking, runtime))
        assert queued.wait(LONGEST)
        ending = threads.submit(stack.close)
        assert told.wait(LONGEST)
        with pytest.raises(CancelledError):
            waiting.result(LONGEST)
        block.go.set()
        running.result(LONGEST)
        ending.result(LONGEST)
    assert steps == ["block ended", "left"]
    threads.submit(opened(), turn_of(blocking, runtime)).result(LONGEST)
    blocking.close()


def test_a_loop_that_is_closed_under_its_tasks_hangs_nobody(threads: ThreadPoolExecutor) -> None:
    """Nothing is told then; who waits looks."""
    runtime, block = Runtime(), Block()
    blocking = Blocking(runtime)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        await use(runtime)
        ready.set_result(None)
        await stop.wait()

    ready: Future[None] = Future()
    serving = threads.submit(loop.run_until_complete, serve())
    ready.result(LONGEST)
    running = threads.submit(block, turn_of(blocking, runtime))
    assert block.entered.wait(LONGEST)
    queued = set_by(runtime, TurnQueued)
    waiting = threads.submit(opened(), turn_of(blocking, runtime))
    assert queued.wait(LONGEST)
    loop.call_soon_threadsafe(stop.set)
    serving.result(LONGEST)
    loop.set_exception_handler(complain_to_nobody)  # of tasks that it has left behind
    loop.close()
    with pytest.raises(NotConfigured, match="was closed"):
        waiting.result(LONGEST)
    block.go.set()
    assert not running.result(LONGEST).is_cut
    threads.submit(opened(), turn_of(blocking, runtime)).result(LONGEST)
    blocking.close()


def complain_to_nobody(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    pass


# -- a loop of its own


def test_close_ends_it_with_who_waits_and_after_who_is_inside(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    """What the runtime has opened there is closed; a call after that makes another one."""
    runtime, block = Runtime(lanes=f"file://{tmp_path}/lanes"), Block()
    blocking = Blocking(runtime)
    before = threading.active_count()
    queued = set_by(runtime, TurnQueued)
    running = threads.submit(block, turn_of(blocking, runtime))
    assert block.entered.wait(LONGEST)
    waiting = threads.submit(opened(), turn_of(blocking, runtime))
    assert queued.wait(LONGEST)
    closing = threads.submit(blocking.close)
    with pytest.raises(CancelledError):
        waiting.result(LONGEST)
    assert not closing.done()
    block.go.set()
    running.result(LONGEST)
    closing.result(LONGEST)
    with turn_of(blocking, runtime):
        pass
    blocking.close()
    blocking.close()
    threads.shutdown()
    assert threading.active_count() <= before


def test_one_that_is_collected_ends_its_loop_after_who_is_inside(threads: ThreadPoolExecutor) -> None:
    """Another one of the runtime may be in its loop, even in the thread that collects it."""
    runtime, block = Runtime(), Block()
    first, second = Blocking(runtime), Blocking(runtime)
    own = loop_of(first)
    with turn_of(first, runtime):
        pass
    running = threads.submit(block, turn_of(second, runtime))
    assert block.entered.wait(LONGEST)
    queued = set_by(runtime, TurnQueued)
    waiting = threads.submit(opened(), turn_of(second, runtime))
    assert queued.wait(LONGEST)
    before = set(threading.enumerate())
    del first
    gc.collect()
    block.go.set()
    assert not running.result(LONGEST).is_cut
    assert not waiting.result(LONGEST).is_cut
    for thread in set(threading.enumerate()) - before:
        thread.join(LONGEST)
    assert own.is_closed()


def test_two_runtimes_have_turns_of_one_thread() -> None:
    """In a loop each, and what fails in one fails in both."""
    outer, inner = Runtime(), Runtime()
    bridges = Blocking(outer), Blocking(inner)
    assert loop_of(bridges[0]) is not loop_of(bridges[1])
    with pytest.raises(ValueError, match="both"), turn_of(bridges[0], outer) as stay:
        stay.call(failing_inside, bridges[1], inner)
    assert is_free(outer)
    assert is_free(inner)
    for each in bridges:
        each.close()


def failing_inside(blocking: Blocking, runtime: Runtime) -> None:
    with turn_of(blocking, runtime):
        raise ValueError("both")


FORKING = """
import gc, os
from functools import partial
from turnlane import Runtime
from turnlane_integrations._blocking import Blocking

runtime = Runtime()
blocking = Blocking(runtime)

def use():
    with blocking.inside(partial(runtime.turn, "k"), instead="it"):
        pass

use()
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    use()
else:
    gc.collect()
    use()
blocking.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_a_loop_of_its_own() -> None:
    """That of its parent did not come along, although it seems to run."""
    made = run(
        [sys.executable, "-W", "ignore", "-c", FORKING], capture_output=True, text=True, timeout=LONGEST, check=False
    )
    assert made.returncode == 0, made.stderr
