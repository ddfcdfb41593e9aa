"""The lanes of one process: order, exclusion, what is refused, what ends a turn from outside."""

import asyncio
import contextvars

import anyio
import anyio.lowlevel
import pytest

from turnlane import Enqueue, Interrupt, Lanes, Reject, current_turn, errors


async def hold(lanes: Lanes, key: str, entered: asyncio.Event, release: asyncio.Event) -> None:
    """Hold a lane from `entered` to `release`."""
    async with lanes.turn(key):
        entered.set()
        await release.wait()


async def test_turns_of_one_key_run_one_at_a_time_in_arrival_order() -> None:
    """Ten turns arrive at once: none overlaps, none overtakes."""
    lanes = Lanes()
    seen: list[int] = []
    inside = 0

    async def run(number: int) -> None:
        nonlocal inside
        async with lanes.turn("a"):
            inside += 1
            assert inside == 1
            await anyio.lowlevel.checkpoint()
            inside -= 1
            seen.append(number)

    await asyncio.gather(*(run(number) for number in range(10)))
    assert seen == list(range(10))
    assert lanes.statistics().lanes == 0
    assert lanes.snapshot() == ()


async def test_a_waiter_cancelled_after_the_hand_over_passes_the_lane_on() -> None:
    """The lane goes to the next although the one it was handed to never ran."""
    lanes = Lanes()
    entered, release = asyncio.Event(), asyncio.Event()
    holder = asyncio.create_task(hold(lanes, "a", entered, release))
    await entered.wait()
    seen: list[str] = []

    async def run(name: str) -> None:
        async with lanes.turn("a"):
            seen.append(name)

    second = asyncio.create_task(run("second"))
    await anyio.wait_all_tasks_blocked()
    third = asyncio.create_task(run("third"))
    await anyio.wait_all_tasks_blocked()
    release.set()
    while not holder.done():
        await anyio.lowlevel.checkpoint()
        if lanes.statistics().waiting == 1:
            second.cancel()
    await asyncio.gather(holder, second, third, return_exceptions=True)
    assert seen == ["third"]
    assert lanes.statistics().lanes == 0


async def test_a_busy_lane_refuses_by_policy() -> None:
    """Reject and a full line are typed errors with the facts."""
    lanes = Lanes()
    entered, release = asyncio.Event(), asyncio.Event()
    holder = asyncio.create_task(hold(lanes, "a", entered, release))
    await entered.wait()
    with pytest.raises(errors.LaneBusy) as busy:
        async with lanes.turn("a", policy=Reject()):
            pass
    assert busy.value.ahead == 1
    with pytest.raises(errors.LaneFull):
        async with lanes.turn("a", policy=Enqueue(max_waiting=0)):
            pass
    with pytest.raises(errors.WaitTimeout):
        async with lanes.turn("a", policy=Enqueue(wait_timeout=0)):
            pass
    release.set()
    await holder
    assert lanes.statistics().lanes == 0


async def test_an_interrupted_turn_cleans_up_before_its_successor_runs() -> None:
    """The cancelled turn finishes its awaits, reports TurnInterrupted, and only then the newcomer starts."""
    lanes = Lanes()
    seen: list[str] = []
    entered = asyncio.Event()

    async def first() -> None:
        async with lanes.turn("a"):
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                await anyio.lowlevel.checkpoint()
                seen.append("cleaned up")

    running = asyncio.create_task(first())
    await entered.wait()
    async with lanes.turn("a", policy=Interrupt(grace=0)):
        seen.append("successor")
    with pytest.raises(errors.TurnInterrupted):
        await running
    assert seen == ["cleaned up", "successor"]


async def test_re_entry_and_cycles_are_refused_at_once() -> None:
    """A chain that would wait for itself gets LaneReentry instead of a deadlock."""
    lanes = Lanes()
    async with lanes.turn("a") as turn:
        assert current_turn() is turn
        with pytest.raises(errors.LaneReentry):
            async with lanes.turn("a"):
                pass
    both = asyncio.Barrier(2)

    async def cross(one: str, other: str) -> bool:
        async with lanes.turn(one):
            await both.wait()
            try:
                async with lanes.turn(other):
                    return False
            except errors.LaneReentry:
                return True

    refused = await asyncio.gather(cross("x", "y"), cross("y", "x"))
    assert sorted(refused) == [False, True]


async def test_a_nested_turn_uses_the_running_slot_of_its_ancestor() -> None:
    """With one slot a nested turn still runs, also behind a turn that waits for the slot."""
    lanes = Lanes(max_running=1)
    seen: list[str] = []

    async def other() -> None:
        async with lanes.turn("b"):
            seen.append("other")

    async with lanes.turn("a"):
        task = asyncio.create_task(other(), context=contextvars.Context())
        await anyio.wait_all_tasks_blocked()
        async with lanes.turn("b"):
            seen.append("nested")
    await task
    assert seen == ["other", "nested"]
    assert lanes.statistics().lanes == 0


async def test_draining_tells_those_who_wait_and_lets_the_running_one_end() -> None:
    """After drain no turn starts, the waiting one knows at once, and drain returns when the last has ended."""
    lanes = Lanes()
    entered, release = asyncio.Event(), asyncio.Event()
    holder = asyncio.create_task(hold(lanes, "a", entered, release))
    await entered.wait()
    waiting = asyncio.create_task(hold(lanes, "a", asyncio.Event(), release))
    await anyio.wait_all_tasks_blocked()
    draining = asyncio.create_task(lanes.drain())
    with pytest.raises(errors.LanesDraining):
        await waiting
    release.set()
    assert await draining == 0
    await holder
