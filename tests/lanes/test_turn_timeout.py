"""`turn_timeout`: a turn that runs too long is cancelled once, and still lets nobody in before it has ended."""

import asyncio

import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time, running_loop
from support.seeded_loop import until_blocked
from turnlane import Interrupt, errors


@on_virtual_time
async def test_a_turn_that_runs_too_long_ends_with_the_number_it_was_given() -> None:
    """Cancelled at that second; a TimeoutError with the facts."""
    lanes = loop_lanes()
    visitor = Visitor(lanes, turn_timeout=2.5)
    error = await visitor.result()
    assert isinstance(error, errors.TurnTimeout)
    assert isinstance(error, TimeoutError)
    assert (error.key, error.turn, error.turn_timeout) == ("a", visitor.held.id, 2.5)
    assert visitor.began is not None
    assert visitor.ended == visitor.began + 2.5
    assert lanes.statistics().totals == {"completed": 0, "timed_out": 1}
    assert leftovers(lanes) == []


@on_virtual_time
async def test_the_time_in_line_does_not_count() -> None:
    """The seconds run from the start of the turn, not from its arrival."""
    lanes = loop_lanes()
    holder = await Visitor(lanes).arrived()
    second = await Visitor(lanes, turn_timeout=3).arrived()
    await asyncio.sleep(100)
    await holder.leave()
    assert isinstance(await second.result(), errors.TurnTimeout)
    assert second.held.waited == pytest.approx(100)
    assert second.ended is not None
    assert second.began is not None
    assert second.ended - second.began == pytest.approx(3)
    assert leftovers(lanes) == []


@on_virtual_time
async def test_the_lanes_have_a_number_for_all_and_the_call_may_have_its_own() -> None:
    """The call's goes first."""
    lanes = loop_lanes(turn_timeout=5)
    error, other = await Visitor(lanes, "a").result(), await Visitor(lanes, "b", turn_timeout=1).result()
    assert isinstance(error, errors.TurnTimeout)
    assert isinstance(other, errors.TurnTimeout)
    assert (error.turn_timeout, other.turn_timeout) == (5, 1)


@on_virtual_time
async def test_a_turn_that_ends_in_time_leaves_no_timer() -> None:
    """Nothing rings later, and nobody is cancelled."""
    lanes = loop_lanes(turn_timeout=5)
    visitor = await Visitor(lanes).arrived()
    assert len(running_loop().armed()) == 1
    await visitor.leave()
    assert running_loop().armed() == []


@pytest.mark.parametrize("swallow", [True, False])
@on_virtual_time
async def test_no_successor_starts_while_the_old_turn_still_runs(swallow: bool) -> None:
    """It swallows the cancellation, or cleans up for long: the lane goes when it has ended."""
    lanes = loop_lanes()

    async def go_on(visitor: Visitor) -> None:
        try:
            await (visitor.hold(50) if swallow else visitor.released.wait())
        finally:
            await visitor.hold(50)

    first = await Visitor(lanes, turn_timeout=1, during=go_on).arrived()
    second = await Visitor(lanes).arrived()
    await second.entered.wait()
    assert second.began == first.ended
    assert isinstance(await first.result(), errors.TurnTimeout | None)
    assert (await first.result() is None) is swallow
    assert first.cancels == int(swallow)


@on_virtual_time
async def test_a_turn_started_in_the_moment_it_was_put_in_line_has_its_timeout_too() -> None:
    """Nested, with a running slot of its ancestor to use, over a line that lacked only a slot."""
    lanes = loop_lanes(max_running=1)
    async with lanes.turn("outer"):
        stranger = await Visitor(lanes, "a").arrived()
        with pytest.raises(errors.TurnTimeout):
            async with lanes.turn("a", policy=Interrupt(), turn_timeout=1):
                await asyncio.Event().wait()
    assert isinstance(await stranger.result(), errors.TurnInterrupted)
    assert leftovers(lanes) == []


@on_virtual_time
async def test_a_turn_that_has_timed_out_is_not_interrupted_as_well() -> None:
    """At most one way out, the first; it hears that somebody wants it to stop, and the newcomer waits for it."""
    lanes = loop_lanes()
    first = await Visitor(lanes, turn_timeout=1, during=lambda visitor: visitor.hold(10)).arrived()
    await asyncio.sleep(2)
    assert not lanes.interrupt("a", grace=0)
    assert first.held.interrupted
    assert await first.result() is None
    assert first.cancels == 1


@on_virtual_time
async def test_a_turn_that_is_asked_to_stop_is_cancelled_once() -> None:
    """By its timeout and its grace together: the second of the two finds it cancelled."""
    lanes = loop_lanes()
    first = await Visitor(lanes, turn_timeout=2, during=lambda visitor: visitor.hold(10)).arrived()
    assert lanes.interrupt("a", grace=3)
    assert await first.result() is None
    assert first.cancels == 1


@pytest.mark.parametrize(("timeout", "grace"), [(5, 1), (1, 5), (3, 3)])
@on_virtual_time
async def test_of_timeout_and_grace_the_shorter_counts(timeout: float, grace: float) -> None:
    """Being asked to stop gives nobody more time than it had; the error is that of what came first."""
    lanes = loop_lanes()
    first = await Visitor(lanes, turn_timeout=timeout).arrived()
    assert lanes.interrupt("a", grace=grace)
    assert isinstance(await first.result(), errors.TurnInterrupted)
    assert first.began is not None
    assert first.ended == first.began + min(timeout, grace)


@on_virtual_time
async def test_a_turn_that_did_not_get_its_lane_leaves_no_timeout() -> None:
    """Cancelled in line, it is forgotten with all that was noted for it."""
    lanes = loop_lanes(turn_timeout=1)
    holder = await Visitor(lanes, during=lambda visitor: visitor.hold(10)).arrived()
    second = await Visitor(lanes).arrived()
    second.task.cancel()
    await second.result()
    await holder.result()
    await until_blocked()
    assert leftovers(lanes) == []
    assert running_loop().armed() == []
