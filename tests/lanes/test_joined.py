"""Calls that joined a running turn: the lane is theirs too until they have ended."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time
from support.seeded_loop import until_blocked
from turnlane import Interrupt, Lanes, Turn, current_turn

Work = Callable[[Turn], Awaitable[object]]


async def joined(lanes: Lanes, work: Work) -> None:
    """Do something as a call that joins the current turn, as `agent_turn` does."""
    turn = current_turn()
    assert turn is not None
    lanes.gate.join(turn, asyncio.current_task())
    try:
        await work(turn)
    finally:
        lanes.gate.unjoin(turn, asyncio.current_task())


def sleeping(seconds: float) -> Work:
    return lambda _: asyncio.sleep(seconds)


@on_virtual_time
async def test_the_lane_is_held_until_a_call_that_outlives_the_block_has_ended() -> None:
    """The turn still runs although its own block has been left; then the next one starts, and it is counted once."""
    lanes = loop_lanes()
    end = asyncio.Event()
    async with lanes.turn("a") as turn:
        call = asyncio.create_task(joined(lanes, lambda _: end.wait()))
        successor = await Visitor(lanes).arrived()
    await until_blocked()
    assert turn.running
    assert successor.waiting
    end.set()
    await call
    await successor.leave()
    assert not turn.running
    assert lanes.statistics().totals == {"completed": 2}
    assert leftovers(lanes) == []


@on_virtual_time
async def test_calls_that_end_before_the_block_change_nothing() -> None:
    """One after the other, one inside the other, in one task and in several."""
    lanes = loop_lanes()
    async with lanes.turn("a") as turn:
        await joined(lanes, lambda _: joined(lanes, lambda _: asyncio.sleep(1)))
        await asyncio.gather(*(joined(lanes, sleeping(seconds)) for seconds in (1, 2)))
        assert turn.running
    assert not turn.running
    assert leftovers(lanes) == []


@on_virtual_time
async def test_the_last_of_several_calls_lets_the_lane_go() -> None:
    """In whatever order they end; a drain waits for them, too."""
    lanes = loop_lanes()
    async with lanes.turn("a"):
        calls = [asyncio.create_task(joined(lanes, sleeping(seconds))) for seconds in (3, 1, 2)]
        await until_blocked()
    draining = asyncio.create_task(lanes.drain())
    await calls[1]
    await calls[2]
    assert lanes.statistics().running == 1
    await calls[0]
    assert await draining == 0
    assert leftovers(lanes) == []


@on_virtual_time
async def test_what_the_block_ended_with_is_what_is_counted() -> None:
    """An error of the block, told to its caller at once, is the outcome of the turn when it ends."""
    lanes = loop_lanes()
    calls: list[asyncio.Task[None]] = []

    async def fail(_: Visitor) -> None:
        calls.append(asyncio.create_task(joined(lanes, sleeping(1))))
        await until_blocked()
        raise LookupError

    assert isinstance(await Visitor(lanes, during=fail).result(), LookupError)
    assert lanes.statistics().totals == {"completed": 0}
    await calls[0]
    assert lanes.statistics().totals == {"completed": 0, "failed": 1}


@pytest.mark.parametrize("asked", ["before the block is left", "after"])
@on_virtual_time
async def test_an_interruption_is_one_of_the_calls_that_go_on_as_well(asked: str) -> None:
    """They are asked, stay asked, and are cancelled once; the newcomer starts when they have cleaned up."""
    lanes = loop_lanes()
    flags: list[bool] = []
    calls: list[asyncio.Task[None]] = []

    async def go_on(turn: Turn) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            flags.append(turn.interrupted)
            await asyncio.sleep(5)
            flags.append(turn.interrupted)

    async def start_a_call(visitor: Visitor) -> None:
        calls.append(asyncio.create_task(joined(lanes, go_on)))
        await visitor.released.wait()

    holder = await Visitor(lanes, during=start_a_call).arrived()
    if asked == "after":
        await holder.leave()
    newcomer = Visitor(lanes, policy=Interrupt(grace=1, wait_timeout=50), during=lambda _: asyncio.sleep(1))
    assert await newcomer.result() is None
    assert flags == [True, True]
    assert calls[0].done()
    assert leftovers(lanes) == []
