"""Draining: no new turn, those who wait are told, those who run come to their end."""

import asyncio

import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time, running_loop
from support.seeded_loop import until_blocked
from turnlane import Lanes, errors
from turnlane.hooks import DrainStarted
from turnlane.testing import Gates


async def enter(lanes: Lanes, key: str = "a") -> None:
    async with lanes.turn(key):
        pass


@on_virtual_time
async def test_those_who_wait_are_told_at_once_and_the_running_one_ends() -> None:
    """The drain returns when the last running turn has ended, and counts who still runs: nobody."""
    lanes = loop_lanes()
    holder, other, waiting = [await Visitor(lanes, key).arrived() for key in "aba"]
    draining = asyncio.create_task(lanes.drain())
    error = await waiting.result()
    assert isinstance(error, errors.LanesDraining)
    assert error.key == "a"
    await holder.leave()
    await until_blocked()
    assert not draining.done()
    await other.leave()
    assert await draining == 0
    assert lanes.statistics().totals == {"completed": 2, "draining": 1}
    assert leftovers(lanes) == []


@on_virtual_time
async def test_new_turns_are_refused_while_it_lasts_and_after() -> None:
    """Also of idle lanes, and also when nobody runs any more."""
    lanes = loop_lanes()
    holder = await Visitor(lanes).arrived()
    draining = asyncio.create_task(lanes.drain())
    await until_blocked()
    for _ in range(2):
        with pytest.raises(errors.LanesDraining):
            await enter(lanes, "b")
        await holder.leave()
        await draining
    assert "draining" in repr(lanes)


@pytest.mark.parametrize("timeout", [0, 3])
@on_virtual_time
async def test_it_gives_up_after_its_timeout_and_says_how_many_still_run(timeout: float) -> None:
    """Running turns are not touched."""
    lanes = loop_lanes()
    visitors = [await Visitor(lanes, key).arrived() for key in "ab"]
    began = running_loop().time()
    assert await lanes.drain(timeout) == 2
    assert running_loop().time() == began + timeout
    assert all(visitor.held.running and not visitor.held.interrupted for visitor in visitors)


@on_virtual_time
async def test_idle_lanes_are_drained_at_once() -> None:
    """There is nobody to wait for."""
    assert await loop_lanes().drain() == 0


@on_virtual_time
async def test_lanes_that_are_entered_again_serve_again_and_can_be_drained_again() -> None:
    """The second drain waits as the first did."""
    lanes = loop_lanes()
    for _ in range(3):
        async with lanes:
            holder = await Visitor(lanes).arrived()
            draining = asyncio.create_task(lanes.drain())
            await until_blocked()
            assert not draining.done()
            await holder.leave()
            assert await draining == 0


@on_virtual_time
async def test_a_drain_that_waits_hears_of_the_end_also_when_the_lanes_serve_again() -> None:
    """Entering the lanes while a drain waits does not leave it waiting for ever; turns start as before afterwards."""
    lanes = loop_lanes()
    holder = await Visitor(lanes).arrived()
    draining = asyncio.create_task(lanes.drain())
    await until_blocked()
    await lanes.__aenter__()
    await holder.leave()
    assert await draining == 0
    await enter(lanes)
    assert not lanes.gate.guarded


@on_virtual_time
async def test_several_drains_at_once_all_return() -> None:
    """Each with its own patience."""
    lanes = loop_lanes()
    holder = await Visitor(lanes, during=lambda visitor: visitor.hold(5)).arrived()
    drains = [asyncio.create_task(lanes.drain(timeout)) for timeout in (None, 2, 9)]
    assert await asyncio.gather(*drains) == [0, 1, 0]
    await holder.task
    assert running_loop().armed() == []


@on_virtual_time
async def test_a_drain_that_is_cancelled_leaves_the_lanes_draining() -> None:
    """Whoever drains again waits as ever, and nothing of the first is left."""
    lanes = loop_lanes()
    holder = await Visitor(lanes).arrived()
    first = asyncio.create_task(lanes.drain())
    await until_blocked()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(errors.LanesDraining):
        await enter(lanes)
    holder.release()
    assert await lanes.drain() == 0


@on_virtual_time
async def test_turns_nested_in_a_running_one_are_served() -> None:
    """The running turn could not end without them: those that waited, and those that come during the drain."""
    lanes = loop_lanes()
    holder = await Visitor(lanes, "b", during=lambda visitor: visitor.hold(1)).arrived()

    async def nest(_: Visitor) -> None:
        await enter(lanes, "b")
        await enter(lanes, "c")

    outer = await Visitor(lanes, "a", during=nest).arrived()
    draining = asyncio.create_task(lanes.drain())
    await outer.task
    assert holder.task.done()
    assert await draining == 0


@on_virtual_time
async def test_a_task_that_outlived_its_turn_is_told_like_a_stranger() -> None:
    """It waits inside no running turn any more."""
    lanes = loop_lanes()
    await Visitor(lanes, "b").arrived()
    async with lanes.turn("a"):
        child = await Visitor(lanes, "b", inside=True).arrived()
    assert await lanes.drain(0) == 1
    assert isinstance(await child.result(), errors.LanesDraining)


@on_virtual_time
async def test_a_paused_line_is_told_too() -> None:
    """Nobody will start in it any more; the pause stays."""
    lanes = loop_lanes()
    lanes.pause("a")
    waiting = [await Visitor(lanes).arrived() for _ in range(2)]
    assert await lanes.drain() == 0
    assert all([isinstance(await visitor.result(), errors.LanesDraining) for visitor in waiting])
    assert [lane.paused for lane in lanes.snapshot()] == [True]


@on_virtual_time
async def test_those_who_wait_for_a_slot_are_told_too() -> None:
    """And the slot of the last running turn is given to nobody."""
    lanes = loop_lanes(max_running=1)
    holder, waiting = await Visitor(lanes, "a").arrived(), await Visitor(lanes, "b").arrived()
    draining = asyncio.create_task(lanes.drain())
    assert isinstance(await waiting.result(), errors.LanesDraining)
    await holder.leave()
    await draining
    assert leftovers(lanes) == []


@on_virtual_time
async def test_closing_does_not_wait_for_running_turns() -> None:
    """`async with lanes:` refuses at its end; who runs goes on and lets the lane go as ever."""
    async with loop_lanes() as lanes:
        holder, waiting = await Visitor(lanes).arrived(), await Visitor(lanes).arrived()
    assert isinstance(await waiting.result(), errors.LanesDraining)
    assert holder.held.running
    await lanes.aclose()
    await holder.leave()
    assert leftovers(lanes) == []


@on_virtual_time
async def test_its_beginning_is_told_once_with_the_numbers() -> None:
    """How many run and how many were told; a second drain of draining lanes is no new beginning."""
    lanes = loop_lanes()
    visitors = [await Visitor(lanes, key).arrived() for key in "abaa"]
    with Gates(lanes.hooks) as gates:
        await lanes.drain(0)
        await lanes.drain(0)
        assert [(event.running, event.waiting) for event in gates.at(DrainStarted).seen] == [(2, 2)]
    for visitor in visitors:
        visitor.release()
