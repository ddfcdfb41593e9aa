"""`max_running`: how many turns run at once, fair between keys, and never a deadlock by nesting."""

import asyncio

import pytest

from support.lanes_invariants import broken_promises, leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time
from support.seeded_loop import until_blocked
from turnlane import Lanes


@pytest.mark.parametrize("slots", [1, 2, 3])
@on_virtual_time
async def test_no_more_turns_run_than_there_are_slots(slots: int) -> None:
    """Of six idle keys so many run; as one ends the next begins."""
    lanes = loop_lanes(max_running=slots)
    visitors = [await Visitor(lanes, key).arrived() for key in "abcdef"]
    for left in range(6, 0, -1):
        assert lanes.statistics().running == min(left, slots)
        assert lanes.statistics().waiting == max(left - slots, 0)
        await visitors[6 - left].leave()
        await until_blocked()
    assert leftovers(lanes) == []


@on_virtual_time
async def test_a_busy_key_does_not_keep_the_others_from_running() -> None:
    """Three wait for a, one each for b and c: after each turn another key is served, in the order of coming."""
    lanes = loop_lanes(max_running=1)
    order: list[str] = []

    def noting(key: str) -> Visitor:
        async def note(_: Visitor) -> None:
            order.append(key)

        return Visitor(lanes, key, during=note)

    first = await Visitor(lanes, "a").arrived()
    for key in "aaabc":
        await noting(key).arrived()
    await first.leave()
    await until_blocked()
    assert order == ["b", "c", "a", "a", "a"]


@on_virtual_time
async def test_a_slot_that_was_handed_to_somebody_who_is_cancelled_is_passed_on() -> None:
    """Between hand-over and wake-up: the slot goes to the next key, and none is lost."""
    lanes = loop_lanes(max_running=1)
    async with lanes.turn("a"):
        second, third = await Visitor(lanes, "b").arrived(), await Visitor(lanes, "c").arrived()
    second.task.cancel()
    await third.entered.wait()
    assert second.turn is None
    await third.leave()
    assert leftovers(lanes) == []


@on_virtual_time
async def test_who_waits_for_a_slot_and_leaves_makes_room_for_the_next_of_its_key() -> None:
    """The place of the key among the keys stays."""
    lanes = loop_lanes(max_running=1)
    first = await Visitor(lanes, "a").arrived()
    gone, other, stays = [await Visitor(lanes, key).arrived() for key in "bcb"]
    gone.task.cancel()
    await first.leave()
    await stays.entered.wait()
    assert other.waiting
    assert broken_promises(lanes.gate.table) == []


class TestNesting:
    """A turn inside another uses its slot; while it waits, whoever is ahead may use it."""

    @on_virtual_time
    async def test_a_nested_turn_needs_no_slot_of_its_own(self) -> None:
        """Three deep with one slot, in the same task and in a child task."""
        lanes = loop_lanes(max_running=1)
        async with lanes.turn("a"), lanes.turn("b"):
            nested = await Visitor(lanes, "c", inside=True).arrived()
            assert nested.held.running
            capacity = lanes.gate.table.capacity
            assert capacity is not None
            assert capacity.used == 1
            await nested.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_nested_turn_runs_behind_a_stranger_who_lacks_the_slot(self) -> None:
        """The stranger ahead runs in the slot that is idle meanwhile, so both come to their turn."""
        lanes = loop_lanes(max_running=1)
        seen: list[str] = []

        async def note(_: Visitor) -> None:
            seen.append("stranger")

        async with lanes.turn("a"):
            stranger = await Visitor(lanes, "b", during=note).arrived()
            assert stranger.waiting
            async with lanes.turn("b"):
                seen.append("nested")
        assert seen == ["stranger", "nested"]
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_slot_is_lent_to_all_who_are_ahead(self) -> None:
        """One after the other, until the nested turn's place has come."""
        lanes = loop_lanes(max_running=1)
        async with lanes.turn("a"):
            strangers = [await Visitor(lanes, "b").arrived() for _ in range(3)]
            nested = await Visitor(lanes, "b", inside=True).arrived()
            for stranger in strangers:
                await stranger.entered.wait()
                assert nested.waiting
                await stranger.leave()
            await nested.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_who_outlives_its_ancestor_does_not_hide_who_can_lend(self) -> None:
        """The child of a turn that has ended stands ahead of a nested turn with one slot: both run, nobody is stuck."""
        lanes = loop_lanes(max_running=1)
        children: list[Visitor] = []

        async def start_a_child(visitor: Visitor) -> None:
            children.append(Visitor(lanes, "b", inside=True))
            await visitor.released.wait()

        parent = await Visitor(lanes, "a").arrived()
        stranger = await Visitor(lanes, "b").arrived()
        await parent.leave()
        await stranger.entered.wait()
        # The stranger has the slot now. The next parent waits for it; its child will outlive it.
        second = await Visitor(lanes, "a", during=start_a_child).arrived()
        lanes.pause("b")
        await stranger.leave()
        await second.entered.wait()
        await until_blocked()
        await second.leave()
        third = Visitor(lanes, "c", during=lambda _: enter(lanes, "b"))
        await third.arrived()
        lanes.resume("b")
        await children[0].leave()
        await third.task
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_the_slot_of_a_grandparent_serves_when_the_parent_has_ended(self) -> None:
        """The grandparent still runs, so what its chain waits for may use its slot."""
        lanes = loop_lanes(max_running=1)
        grandchildren: list[Visitor] = []

        async def start_a_grandchild(_: Visitor) -> None:
            grandchildren.append(await Visitor(lanes, "b", inside=True).arrived())

        async with lanes.turn("a"):
            stranger = await Visitor(lanes, "b").arrived()
            await Visitor(lanes, "p", during=start_a_grandchild, inside=True).result()
            await stranger.leave()
            await grandchildren[0].leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_child_that_outlives_its_parent_keeps_the_slot_until_it_ends(self) -> None:
        """The slot they shared is free when both have ended."""
        lanes = loop_lanes(max_running=1)
        async with lanes.turn("a"):
            child = await Visitor(lanes, "b", inside=True).arrived()
        other = await Visitor(lanes, "c").arrived()
        assert other.waiting
        await child.leave()
        await other.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_turns_of_other_lanes_lend_no_slot(self) -> None:
        """A slot belongs to one `Lanes` object, whatever turn of another the caller is inside."""
        lanes, others = loop_lanes(max_running=1), loop_lanes(max_running=1)
        async with others.turn("a"):
            first = await Visitor(lanes, "a", inside=True).arrived()
            second = await Visitor(lanes, "b", inside=True).arrived()
            assert second.waiting
            await first.leave()
            await second.leave()
        assert leftovers(lanes) == leftovers(others) == []


async def enter(lanes: Lanes, key: str) -> None:
    async with lanes.turn(key):
        await asyncio.sleep(1)
