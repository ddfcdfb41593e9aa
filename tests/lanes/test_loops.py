"""`memory://` lanes and event loops: one at a time, several one after the other."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor
from turnlane import Enqueue, Interrupt, Lanes, errors


async def enter(lanes: Lanes, key: str = "a") -> None:
    async with lanes.turn(key):
        await asyncio.sleep(0)


async def contend(lanes: Lanes) -> None:
    """Use everything that belongs to a loop: futures, deadlines, timeouts, an interruption, a drain."""
    holder = await started(Visitor(lanes, turn_timeout=100))
    waiting = Visitor(lanes, policy=Enqueue(wait_timeout=100), turn_timeout=100)
    await passes()
    interrupting = Visitor(lanes, policy=Interrupt(grace=0))
    await interrupting.entered.wait()
    assert isinstance(await holder.result(), errors.TurnInterrupted)
    assert isinstance(await waiting.result(), errors.TurnInterrupted)
    draining = asyncio.create_task(lanes.drain())
    await passes()
    await interrupting.leave()
    assert await draining == 0
    await lanes.__aenter__()


async def started(visitor: Visitor) -> Visitor:
    await visitor.entered.wait()
    return visitor


async def passes() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("use", [enter, contend])
@pytest.mark.parametrize("max_running", [None, 1])
def test_lanes_serve_several_loops_one_after_the_other(
    use: Callable[[Lanes], Awaitable[None]], max_running: int | None
) -> None:
    """As test clients do, which make a loop for each request."""
    lanes = Lanes(max_running=max_running)

    async def main() -> None:
        await use(lanes)

    for _ in range(3):
        asyncio.run(main())
        assert leftovers(lanes) == []


def test_lanes_keep_their_promises_on_uvloop() -> None:
    """The other loop that servers use: order, exclusion, cancellation after the hand-over, interruption, timeouts."""
    uvloop = pytest.importorskip("uvloop", reason="not on Windows")
    lanes = Lanes(max_running=1)
    order: list[int] = []

    async def note(number: int, _: Visitor) -> None:
        order.append(number)
        await asyncio.sleep(0)
        assert lanes.statistics().running == 1

    async def main() -> None:
        await contend(lanes)
        async with lanes.turn("a"):
            visitors = [Visitor(lanes, during=partial(note, number)) for number in range(5)]
            late = Visitor(lanes, policy=Enqueue(wait_timeout=0.01))
            assert isinstance(await late.result(), errors.WaitTimeout)
        visitors[0].task.cancel()
        for visitor in visitors:
            await visitor.result()
        assert isinstance(await Visitor(lanes, turn_timeout=0.01).result(), errors.TurnTimeout)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert order == [1, 2, 3, 4]
    assert leftovers(lanes) == []


def test_an_open_loop_that_does_not_run_lets_idle_lanes_go() -> None:
    """Back and forth between two loops, as long as no turn is left in the other."""
    lanes = Lanes()
    with asyncio.Runner() as one, asyncio.Runner() as other:
        for _ in range(3):
            one.run(contend(lanes))
            other.run(contend(lanes))
    assert leftovers(lanes) == []


@pytest.mark.parametrize("max_running", [None, 1])
def test_two_loops_that_overlap_are_refused(max_running: int | None) -> None:
    """While a turn runs in a loop of one thread, another loop can have no lane; afterwards it can."""
    lanes = Lanes(max_running=max_running)
    held, release = threading.Event(), threading.Event()

    async def hold() -> None:
        async with lanes.turn("a"):
            held.set()
            await asyncio.to_thread(release.wait, 10)

    thread = threading.Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    try:
        assert held.wait(10)
        for key in ("a", "b"):
            with pytest.raises(errors.NotConfigured, match="another event loop"):
                asyncio.run(enter(lanes, key))
        assert lanes.statistics().running == 1
    finally:
        release.set()
        thread.join()
    asyncio.run(enter(lanes))
    assert lanes.statistics().totals == {"completed": 2}


def test_a_waiting_turn_keeps_its_loop_too() -> None:
    """Nobody runs, one waits for a paused lane in a loop that may go on: another loop is refused."""
    lanes = Lanes()
    with asyncio.Runner() as runner:
        runner.run(asyncio.sleep(0))
        lanes.pause("a")
        waiting = runner.get_loop().create_task(enter(lanes))
        runner.run(passes())
        with asyncio.Runner() as other, pytest.raises(errors.NotConfigured):
            other.run(enter(lanes, "b"))
        lanes.resume("a")
        runner.run(asyncio.wait_for(waiting, 10))
    assert leftovers(lanes) == []


def collect(tasks: "list[asyncio.Task[None]]") -> list[str]:
    """Close the coroutines of abandoned tasks, as the garbage collector does; return what they complained of."""
    complaints: list[str] = []
    for task in tasks:
        try:
            task.get_coro().close()
        except RuntimeError as error:
            complaints.append(str(error))
    return complaints


@pytest.mark.parametrize("collected", ["at once", "in the next loop"])
@pytest.mark.parametrize("max_running", [None, 1])
def test_turns_of_a_loop_that_was_closed_under_them_are_forgotten(max_running: int | None, collected: str) -> None:
    """Its tasks never run again; the next loop starts with idle lanes, and what is collected late harms nobody."""
    lanes = Lanes(max_running=max_running)
    lanes.pause("p")
    tasks: list[asyncio.Task[None]] = []

    async def leave_behind() -> None:
        holder = await started(Visitor(lanes, turn_timeout=100))
        waiting = [Visitor(lanes, key, turn_timeout=100) for key in "aab"]
        await passes()
        for visitor in [holder, *waiting]:
            # Abandoned on purpose; asyncio would complain of it when they are collected.
            abandoned: Any = visitor.task
            abandoned._log_destroy_pending = False
            tasks.append(visitor.task)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave_behind())
    loop.close()
    assert lanes.statistics().running >= 1
    if collected == "at once":
        assert collect(tasks) == []

    async def in_the_next_loop() -> None:
        holder = await started(Visitor(lanes))
        assert collect(tasks) == []
        waiting = Visitor(lanes)
        await passes()
        assert (lanes.statistics().running, lanes.statistics().waiting) == (1, 1)
        await holder.leave()
        await started(waiting)
        await waiting.leave()

    asyncio.run(in_the_next_loop())
    assert [(lane.key, lane.paused) for lane in lanes.snapshot()] == [("p", True)]


@pytest.mark.parametrize("operation", ["pause", "resume", "interrupt"])
async def test_another_thread_may_not_touch_lanes_that_are_in_use(operation: str) -> None:
    """It is told how to ask the loop to do it; nothing has happened."""
    lanes = Lanes()
    async with lanes.turn("a") as turn:
        with pytest.raises(errors.NotConfigured, match="call_soon_threadsafe"):
            await asyncio.to_thread(getattr(lanes, operation), "a")
        assert not turn.interrupted
        assert [lane.paused for lane in lanes.snapshot()] == [False]
    await asyncio.to_thread(getattr(lanes, operation), "a")


@pytest.mark.parametrize("closed", [True, False])
def test_lanes_that_were_closed_serve_the_next_loop(closed: bool) -> None:
    """A server that starts again takes turns again; what was drained, and not closed, stays so in every loop."""
    lanes = Lanes()

    async def end() -> None:
        await enter(lanes)
        await (lanes.aclose() if closed else lanes.drain())
        with pytest.raises(errors.LanesDraining):
            await enter(lanes)

    asyncio.run(end())
    if closed:
        asyncio.run(enter(lanes))
    asyncio.run(end() if closed else refused(lanes))
    assert leftovers(lanes) == []


async def refused(lanes: Lanes) -> None:
    with pytest.raises(errors.LanesDraining):
        await enter(lanes)


async def test_lanes_never_used_name_no_loop() -> None:
    """Before the first turn there is no loop to ask for; the message says so."""
    lanes = Lanes()
    with pytest.raises(errors.NotConfigured, match="never been used"):
        _ = lanes.gate.loop
    assert not lanes.interrupt("a")
    lanes.pause("a")
    lanes.resume("a")
    assert await lanes.drain() == 0
