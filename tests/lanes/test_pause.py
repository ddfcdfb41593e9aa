"""Pausing a lane and letting it go on."""

import pytest

from support.lanes_invariants import broken_promises, leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time
from support.seeded_loop import until_blocked
from turnlane import Enqueue, Interrupt, errors


@on_virtual_time
async def test_nobody_starts_in_a_paused_lane_until_it_is_resumed() -> None:
    """Who runs goes on; who waits and who arrives stay in line, and start in order."""
    lanes = loop_lanes()
    first, second = await Visitor(lanes).arrived(), await Visitor(lanes).arrived()
    lanes.pause("a")
    third = await Visitor(lanes).arrived()
    await first.leave()
    await until_blocked()
    assert (second.waiting, third.waiting, lanes.statistics().running) == (True, True, 0)
    lanes.resume("a")
    await second.leave()
    await third.leave()
    assert leftovers(lanes) == []


@on_virtual_time
async def test_an_idle_lane_can_be_paused() -> None:
    """It then exists, without a holder; resumed it is gone."""
    lanes = loop_lanes()
    lanes.pause("a")
    assert [(lane.key, lane.holder, lane.paused) for lane in lanes.snapshot()] == [("a", None, True)]
    assert lanes.statistics().lanes == 1
    lanes.resume("a")
    assert leftovers(lanes) == []


@on_virtual_time
async def test_other_lanes_go_on() -> None:
    """Also when the paused one has the longer line and there is one slot."""
    lanes = loop_lanes(max_running=1)
    lanes.pause("a")
    paused = [await Visitor(lanes, "a").arrived() for _ in range(2)]
    for _ in range(2):
        await Visitor(lanes, "b", during=lambda visitor: visitor.hold(1)).task
    assert all(visitor.waiting for visitor in paused)
    assert broken_promises(lanes.gate.table) == []


@on_virtual_time
async def test_a_lane_that_lacks_a_slot_as_well_waits_for_both() -> None:
    """Paused while it was next for the slot, the slot goes to another; resumed, it is last among the keys."""
    lanes = loop_lanes(max_running=1)
    holder = await Visitor(lanes, "h").arrived()
    first, second = await Visitor(lanes, "a").arrived(), await Visitor(lanes, "b").arrived()
    lanes.pause("a")
    lanes.resume("a")
    await holder.leave()
    await second.entered.wait()
    assert first.waiting
    await second.leave()
    await first.leave()
    assert leftovers(lanes) == []


@pytest.mark.parametrize("key", ["a", " a", "a\t"])
@on_virtual_time
async def test_the_key_may_be_written_as_clients_write_it(key: str) -> None:
    """Pause and resume mean the lane that `turn` means by the same text."""
    lanes = loop_lanes()
    lanes.pause(key)
    visitor = await Visitor(lanes, "a").arrived()
    assert visitor.waiting
    lanes.resume(key)
    await visitor.leave()
    assert leftovers(lanes) == []


@on_virtual_time
async def test_doing_it_twice_and_undoing_what_was_not_done_is_harmless() -> None:
    """Two pauses end with one resume; a resume of a lane that goes on changes nothing."""
    lanes = loop_lanes()
    lanes.resume("a")
    lanes.pause("a")
    lanes.pause("a")
    visitor = await Visitor(lanes).arrived()
    lanes.resume("a")
    await until_blocked()
    assert visitor.held.running
    second = await Visitor(lanes).arrived()
    lanes.resume("a")
    assert second.waiting
    assert broken_promises(lanes.gate.table) == []


@on_virtual_time
async def test_waiting_for_a_paused_lane_has_its_limits_too() -> None:
    """It times out, can be cancelled, and the line has its length."""
    lanes = loop_lanes(policy=Enqueue(max_waiting=2, wait_timeout=5))
    lanes.pause("a")
    late, gone = await Visitor(lanes).arrived(), await Visitor(lanes).arrived()
    assert isinstance(await Visitor(lanes).result(), errors.LaneFull)
    gone.task.cancel()
    assert isinstance(await late.result(), errors.WaitTimeout)
    assert lanes.statistics().waiting == 0
    assert [lane.paused for lane in lanes.snapshot()] == [True]


@on_virtual_time
async def test_an_interruption_does_not_get_round_a_pause() -> None:
    """The running turn is cancelled, earlier waiters are superseded, and the newcomer waits for the lane to go on."""
    lanes = loop_lanes()
    holder, earlier = await Visitor(lanes).arrived(), await Visitor(lanes).arrived()
    lanes.pause("a")
    newcomer = await Visitor(lanes, policy=Interrupt(grace=0, wait_timeout=None)).arrived()
    assert isinstance(await holder.result(), errors.TurnInterrupted)
    assert isinstance(await earlier.result(), errors.TurnInterrupted)
    assert newcomer.waiting
    lanes.resume("a")
    await newcomer.leave()
    assert leftovers(lanes) == []


@on_virtual_time
async def test_a_nested_turn_waits_for_a_paused_lane_and_lends_its_slot_when_it_goes_on() -> None:
    """Resuming starts whoever is ahead in the slot that the chain behind it leaves idle."""
    lanes = loop_lanes(max_running=1)
    lanes.pause("b")
    async with lanes.turn("a"):
        stranger = await Visitor(lanes, "b").arrived()
        nested = await Visitor(lanes, "b", inside=True).arrived()
        lanes.resume("b")
        await stranger.leave()
        await nested.leave()
    assert leftovers(lanes) == []
