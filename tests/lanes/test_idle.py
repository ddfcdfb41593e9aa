"""An idle key retains nothing, and timers are armed only while somebody needs them."""

# What is kept is seen only from the inside.
# pyright: reportPrivateUsage=false

import asyncio
import gc
import weakref
from collections.abc import Generator

import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time, running_loop
from support.seeded_loop import until_blocked
from turnlane import Enqueue, Interrupt, Lanes, Turn, errors
from turnlane.lanes.deadlines import Deadlines
from turnlane.lanes.line import Waiter


@pytest.fixture(autouse=True)
def nothing_from_before() -> Generator[None, None, None]:
    """Let the collector know only of what a test makes: what the tests before it left is many, and may go meanwhile."""
    gc.freeze()
    yield
    gc.unfreeze()


def living(*kinds: type[object]) -> int:
    """Count the objects of some classes that were made in this test and are still there."""
    gc.collect()
    return sum(type(thing) in kinds for thing in gc.get_objects())


async def test_many_keys_one_after_the_other_leave_nothing() -> None:
    """Ten thousand keys: no turn is left, and nothing has grown."""
    lanes = Lanes()
    async with lanes.turn("one"):
        assert living(Turn) == 1
    for number in range(10_000):
        async with lanes.turn(f"key-{number}"):
            pass
    assert living(Turn) == 0
    assert leftovers(lanes) == []
    assert len(lanes.gate.outcomes.totals()) == 1


@pytest.mark.parametrize("max_running", [None, 2])
@on_virtual_time
async def test_waiting_leaves_nothing_however_it_ended(max_running: int | None) -> None:
    """Served, cancelled, timed out, superseded, interrupted, nested: no turn, no waiter, no deadline, no chain."""
    lanes = loop_lanes(max_running=max_running, turn_timeout=500)

    async def nest(_: Visitor) -> None:
        async with lanes.turn("b"):
            await asyncio.sleep(1)

    async def contend(wait_timeout: float) -> None:
        visitors = [await Visitor(lanes, "a", during=nest).arrived()]
        visitors += [Visitor(lanes, "a", policy=Enqueue(wait_timeout=wait_timeout)) for _ in range(3)]
        visitors += [Visitor(lanes, "b", during=nest) for _ in range(2)]
        await until_blocked()
        visitors[1].task.cancel()
        visitors += [Visitor(lanes, "a", policy=Interrupt(grace=0), during=lambda _: asyncio.sleep(1))]
        await asyncio.wait([visitor.task for visitor in visitors])

    for number in range(20):
        await contend(number / 10)
    await until_blocked()
    assert leftovers(lanes) == []
    assert running_loop().armed() == []
    assert living(Turn, Waiter) == 0


@pytest.mark.parametrize("max_running", [None, 1])
@on_virtual_time
async def test_a_turn_that_was_handed_its_lane_needs_no_collector_to_go(max_running: int | None) -> None:
    """Neither it nor its place in line is part of a cycle of references."""
    lanes = loop_lanes(max_running=max_running)
    visitors = [await Visitor(lanes).arrived() for _ in range(3)]
    gc.disable()
    try:
        while visitors:
            await visitors.pop(0).leave()
        await until_blocked()
        assert [thing for thing in gc.get_objects() if type(thing) in (Turn, Waiter)] == []
    finally:
        gc.enable()


@on_virtual_time
async def test_the_task_of_a_turn_that_has_ended_is_let_go() -> None:
    """Neither the lanes nor their statistics keep it, whether it waited or not."""
    lanes = loop_lanes()
    visitor = await Visitor(lanes).arrived()
    second = await Visitor(lanes).arrived()
    await visitor.leave()
    await second.leave()
    await until_blocked()
    kept = [weakref.ref(visitor.task), weakref.ref(second.task)]
    del visitor, second
    await until_blocked()
    gc.collect()
    assert [task() for task in kept] == [None, None]


@on_virtual_time
async def test_who_has_left_the_line_is_let_go_while_others_wait() -> None:
    """Their deadlines may be kept for a while; their tasks, and what those hold, are not."""
    lanes = loop_lanes(policy=Enqueue(max_waiting=None, wait_timeout=300))
    await Visitor(lanes, "busy").arrived()
    patient = await Visitor(lanes, "busy").arrived()
    await Visitor(lanes, "gone").arrived()
    kept: list[weakref.ref[object]] = []
    for _ in range(50):
        visitor = await Visitor(lanes, "gone").arrived()
        visitor.task.cancel()
        await visitor.result()
        kept.append(weakref.ref(visitor.task))
        del visitor
    await until_blocked()
    gc.collect()
    assert [task() for task in kept if task() is not None] == []
    assert not patient.task.done()


class TestTimers:
    """One timer for all who wait with one timeout, none for those who do not."""

    @on_virtual_time
    async def test_a_turn_that_does_not_wait_arms_no_timer(self) -> None:
        """Whatever its policy."""
        lanes = loop_lanes(policy=Enqueue(wait_timeout=100))
        async with lanes.turn("a"), lanes.turn("b", policy=Interrupt(wait_timeout=100)):
            assert running_loop().armed() == []

    @on_virtual_time
    async def test_who_waits_with_the_same_timeout_shares_a_timer(self) -> None:
        """It is set for the first of them, and gone with the last."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        now = running_loop().time()
        waiting = [Visitor(lanes, policy=Enqueue(wait_timeout=seconds)) for seconds in (50, 10, 50, 10)]
        await until_blocked()
        assert sorted(timer.when() for timer in running_loop().armed()) == [now + 10, now + 50]
        waiting[1].task.cancel()
        await holder.leave()
        for visitor in waiting:
            visitor.release()
            await visitor.result()
        assert running_loop().armed() == []
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_wait_without_a_limit_arms_no_timer(self) -> None:
        """There is nothing to ring for."""
        lanes = loop_lanes(policy=Enqueue(wait_timeout=None))
        await Visitor(lanes).arrived()
        await Visitor(lanes).arrived()
        assert running_loop().armed() == []

    @on_virtual_time
    async def test_deadlines_of_those_who_left_do_not_pile_up(self) -> None:
        """While one waits for long, a thousand come and leave: little is kept of them, and the one is told in time."""
        lanes = loop_lanes(policy=Enqueue(max_waiting=None, wait_timeout=300))
        await Visitor(lanes).arrived()
        began = running_loop().time()
        patient = await Visitor(lanes).arrived()
        for _ in range(1000):
            gone = await Visitor(lanes).arrived()
            gone.task.cancel()
            await gone.result()
        assert len(lanes.gate.deadlines._same[300].waiters) <= 2 + 64 + 1
        assert isinstance(await patient.result(), errors.WaitTimeout)
        assert running_loop().time() == pytest.approx(began + 300)
        assert lanes.gate.deadlines._same == {}

    @on_virtual_time
    async def test_many_deadlines_ring_in_order_after_a_clearing(self) -> None:
        """Two hundred wait with mixed limits and three quarters of them leave: the rest are told at their times."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        began = running_loop().time()
        limits = [number * 37 % 199 for number in range(200)]
        waiting = [Visitor(lanes, policy=Enqueue(max_waiting=None, wait_timeout=limit)) for limit in limits]
        await until_blocked()
        for number, visitor in enumerate(waiting):
            if number % 4:
                visitor.task.cancel()
        for number in sorted(range(0, 200, 4), key=lambda number: limits[number]):
            assert isinstance(await waiting[number].result(), errors.WaitTimeout)
            assert running_loop().time() - began == pytest.approx(limits[number])
        await holder.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_listener_that_has_somebody_wait_while_deadlines_ring_arms_one_timer(self) -> None:
        """Who comes while a timer is ringing shares the next one, and none is left behind."""
        loop, rang = running_loop(), list[Waiter]()
        lanes = loop_lanes()
        turns = [visitor.held for visitor in [await Visitor(lanes, key).arrived() for key in "abcd"]]
        first, second, third, late = (Waiter(turn, None) for turn in turns)

        def ring(waiter: Waiter) -> None:
            rang.append(waiter)
            if waiter is first:
                deadlines.add(late, 5)

        before = len(loop.armed())
        deadlines = Deadlines(loop, ring)
        for waiter in (first, second, third):
            deadlines.add(waiter, 5)
        await asyncio.sleep(6)
        assert rang == [first, second, third]
        assert len(loop.armed()) == before + 1
        await asyncio.sleep(6)
        assert rang[-1] is late
        assert len(loop.armed()) == before
