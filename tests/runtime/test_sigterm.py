"""Draining at SIGTERM, with real signals in a process of its own.

What a server's clients see of it is tested with real servers elsewhere; here is what the handler does. The last ones
run in the process of the tests, which handles the signal meanwhile.
"""

import asyncio
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from support.turns_steps import apart, held, output_of, until_idle
from turnlane import Runtime
from turnlane.errors import LanesDraining

PRELUDE = """
import asyncio, contextvars, os, signal, threading
from turnlane import Runtime, errors

heard = []

def mine(number, frame):
    heard.append(number)

async def one_turn(runtime):
    try:
        async with runtime.turn("a"):
            return "ran"
    except errors.LanesDraining:
        return "drained"

async def scene(runtime, **settings):
    async with runtime.lifespan(object(), **settings):
        inside = signal.getsignal(signal.SIGTERM)
        async with runtime.turn("a"):
            loop = asyncio.get_running_loop()
            waiting = loop.create_task(one_turn(runtime), context=contextvars.Context())
            while not runtime.lanes.statistics().waiting:
                await asyncio.sleep(0)
            if callable(inside):
                os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(100):
                await asyncio.sleep(0)
            print("told at once", waiting.done(), "running", runtime.lanes.statistics().running)
        print("waiting", await waiting)
        print("inside", inside is mine)
"""


def test_waiting_turns_are_told_at_once_and_the_running_one_goes_on() -> None:
    """The handler that was there is called with the signal, and is there again afterwards."""
    printed = output_of(
        PRELUDE
        + """
signal.signal(signal.SIGTERM, mine)
runtime = Runtime()
asyncio.run(scene(runtime))
print("heard", heard == [signal.SIGTERM], "restored", signal.getsignal(signal.SIGTERM) is mine)
"""
    )
    assert printed.splitlines() == [
        "told at once True running 1",
        "waiting drained",
        "inside False",
        "heard True restored True",
    ]


def test_it_can_be_left_to_others() -> None:
    """With `drain_on_sigterm=False` the signal is none of our business."""
    printed = output_of(
        PRELUDE
        + """
signal.signal(signal.SIGTERM, mine)
runtime = Runtime()
asyncio.run(scene(runtime, drain_on_sigterm=False))
print("heard", heard == [signal.SIGTERM])
"""
    )
    assert printed.splitlines() == ["told at once False running 1", "waiting ran", "inside True", "heard True"]


def test_where_nobody_handles_the_signal_nothing_is_installed() -> None:
    """The process ends by it, as it would without."""
    printed = output_of(
        PRELUDE
        + """
runtime = Runtime()
asyncio.run(scene(runtime))
print("still", signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    )
    assert printed.splitlines() == ["told at once False running 1", "waiting ran", "inside False", "still True"]


def test_in_another_thread_nothing_is_installed() -> None:
    """A test client runs the app in a thread: signals belong to the main one."""
    printed = output_of(
        PRELUDE
        + """
signal.signal(signal.SIGTERM, mine)
runtime = Runtime()
async def calm():
    async with runtime.lifespan(object()):
        print("inside", signal.getsignal(signal.SIGTERM) is mine, await one_turn(runtime))
thread = threading.Thread(target=lambda: asyncio.run(calm()))
thread.start()
thread.join()
"""
    )
    assert printed.splitlines() == ["inside True ran"]


def test_a_handler_that_was_installed_later_stays() -> None:
    """Only what was installed here is taken back; several runtimes take theirs back in turn."""
    printed = output_of(
        PRELUDE
        + """
def later(number, frame):
    heard.append("later")

async def nested():
    one, two = Runtime(), Runtime()
    async with one.lifespan(object()), two.lifespan(object()):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(10):
            await asyncio.sleep(0)
        print(await one_turn(one), await one_turn(two))
    print("restored", signal.getsignal(signal.SIGTERM) is mine)
    async with one.lifespan(object()):
        signal.signal(signal.SIGTERM, later)
    print("kept", signal.getsignal(signal.SIGTERM) is later)

signal.signal(signal.SIGTERM, mine)
asyncio.run(nested())
print("heard", heard == [signal.SIGTERM])
"""
    )
    assert printed.splitlines() == ["drained drained", "restored True", "kept True", "heard True"]


def test_a_signal_between_two_loops_reaches_the_old_handler_only() -> None:
    """Nothing is scheduled on a loop that is closed."""
    printed = output_of(
        PRELUDE
        + """
signal.signal(signal.SIGTERM, mine)
runtime = Runtime()
loop = asyncio.new_event_loop()
scope = runtime.lifespan(object())
loop.run_until_complete(scope.__aenter__())
ours = signal.getsignal(signal.SIGTERM)
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
signal.signal(signal.SIGTERM, ours)
os.kill(os.getpid(), signal.SIGTERM)
print("heard", heard == [signal.SIGTERM], ours is not mine)
os._exit(0) if not print(end="", flush=True) else None
"""
    )
    assert printed.splitlines() == ["heard True True"]


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """The signals that reached a handler of the test's own."""
    numbers: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        numbers.append(number)

    before = signal.signal(signal.SIGTERM, hear)
    yield numbers
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("times", [1, 2])
async def test_the_lanes_drain_in_this_process_too(heard: list[int], times: int) -> None:
    """However often the signal comes; who runs ends as ever, and closing afterwards finds nothing left to do."""
    runtime = Runtime()
    handler = signal.getsignal(signal.SIGTERM)

    async def one_turn() -> None:
        async with runtime.turn("a"):
            raise AssertionError("it ran")

    async with runtime.lifespan(object()), held(runtime.lanes, "a"):
        waiting = apart(one_turn())
        await until_idle()
        for _ in range(times):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(LanesDraining):
            await waiting
        assert runtime.lanes.statistics().running == 1
    assert heard == [signal.SIGTERM] * times
    assert signal.getsignal(signal.SIGTERM) is handler
    assert len(asyncio.all_tasks()) == 1


async def test_a_signal_at_the_very_end_leaves_no_task(heard: list[int]) -> None:
    """It comes, and the server ends before the loop gets to it."""
    runtime = Runtime()
    async with runtime.lifespan(object()):
        signal.raise_signal(signal.SIGTERM)
    await until_idle()
    assert heard == [signal.SIGTERM]
    assert len(asyncio.all_tasks()) == 1
