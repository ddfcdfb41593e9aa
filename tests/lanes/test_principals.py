"""Caps of one principal: nobody's many keys keep the others from running, or fill the lines."""

from functools import partial

import pytest

from support.lanes_invariants import broken_promises, leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time
from support.seeded_loop import until_blocked
from turnlane import Coalesce, Enqueue, Interrupt, Lanes, Reject, errors

ALONE = {"max_running_per_principal": 1}
AT_MOST_ONE_WAITS = {"max_waiting_per_principal": 1}


class TestRunning:
    """`max_running_per_principal`."""

    @pytest.mark.parametrize("max_running", [None, 3])
    @on_virtual_time
    async def test_many_keys_of_one_principal_run_as_many_as_may(self, max_running: int | None) -> None:
        """Of five keys two run, in the order of coming; those of another, and of nobody, run beside them."""
        lanes = loop_lanes(max_running=max_running, max_running_per_principal=2)
        alices = [await Visitor(lanes, key, principal="alice").arrived() for key in "abcde"]
        assert [visitor.entered.is_set() for visitor in alices] == [True, True, False, False, False]
        bob = await Visitor(lanes, "bob", principal="bob").arrived()
        assert bob.entered.is_set()
        if max_running is None:
            nobodies = [await Visitor(lanes, key).arrived() for key in "xyz"]
            assert all(visitor.entered.is_set() for visitor in nobodies)
            for visitor in nobodies:
                await visitor.leave()
        for number in range(3):
            await alices[number].leave()
            await until_blocked()
            assert alices[number + 2].entered.is_set()
            assert broken_promises(lanes.gate.table) == []
        for visitor in (*alices[3:], bob):
            await visitor.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_who_hammers_stands_behind_in_the_queue_for_slots_with_as_many_as_may_run(self) -> None:
        """One slot, and one place of each: after the turn that runs come one of alice's, bob's, and then hers."""
        lanes = loop_lanes(max_running=1, **ALONE)
        order: list[str] = []

        async def note(key: str, _: Visitor) -> None:
            order.append(key)

        first = await Visitor(lanes, "first").arrived()
        for key in ("a1", "a2", "a3", "b"):
            await Visitor(lanes, key, principal=key[0], during=partial(note, key)).arrived()
        await first.leave()
        await until_blocked()
        assert order == ["a1", "b", "a2", "a3"]
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_who_comes_behind_one_that_has_left_is_not_held_up_by_its_principal(self) -> None:
        """A lane that two share: the head is alice's, who runs elsewhere; when it leaves, bob's turn runs."""
        lanes = loop_lanes(**ALONE)
        elsewhere = await Visitor(lanes, "elsewhere", principal="alice").arrived()
        head = await Visitor(lanes, "shared", principal="alice").arrived()
        behind = await Visitor(lanes, "shared", principal="bob").arrived()
        assert not behind.entered.is_set()
        head.task.cancel()
        await until_blocked()
        assert behind.entered.is_set()
        await behind.leave()
        await elsewhere.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_nested_turn_uses_the_place_of_its_ancestor(self) -> None:
        """Whoever runs one turn may still call another agent from inside it."""
        lanes = loop_lanes(**ALONE)
        async with (
            lanes.turn("a", principal="alice"),
            lanes.turn("b", principal="alice"),
        ):
            stranger = await Visitor(lanes, "c", principal="alice").arrived()
            assert not stranger.entered.is_set()
        await until_blocked()
        assert stranger.entered.is_set()
        await stranger.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_nested_turn_lends_its_place_to_who_stands_before_it(self) -> None:
        """Alice's turn waits in a line whose head is hers too, and would wait for the place she has: it gets it."""
        lanes = loop_lanes(**ALONE)
        holder = await Visitor(lanes, "b", principal="bob").arrived()
        async with lanes.turn("a", principal="alice"):
            head = await Visitor(lanes, "b", principal="alice").arrived()
            nested = await Visitor(lanes, "b", principal="alice", inside=True).arrived()
            await holder.leave()
            await until_blocked()
            assert head.entered.is_set()
            await head.leave()
            await until_blocked()
            assert nested.entered.is_set()
            await nested.leave()
        assert leftovers(lanes) == []

    @pytest.mark.parametrize("policy", [Reject(), Enqueue(max_waiting=0)], ids=str)
    @on_virtual_time
    async def test_who_will_not_wait_is_told_which_cap_it_is(self, policy: Reject | Enqueue) -> None:
        """The lane is idle and slots are free; others get in."""
        lanes = loop_lanes(max_running=5, **ALONE)
        running = await Visitor(lanes, "a", principal="alice").arrived()
        with pytest.raises(errors.PrincipalCapacityExceeded) as full:
            await lanes.turn("b", policy=policy, principal="alice").__aenter__()
        assert (full.value.key, full.value.resource, full.value.limit) == ("b", "max_running_per_principal", 1)
        async with lanes.turn("b", policy=policy, principal="bob"):
            pass
        await running.leave()
        assert lanes.statistics().totals["capacity"] == 1
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_pausing_and_draining_leave_nobody_parked(self) -> None:
        """Who waits for a place of its principal is paused, resumed and told of a drain as others are."""
        lanes = loop_lanes(**ALONE)
        running = await Visitor(lanes, "a", principal="alice").arrived()
        waiting = await Visitor(lanes, "b", principal="alice").arrived()
        lanes.pause("b")
        await running.leave()
        await until_blocked()
        assert not waiting.entered.is_set()
        lanes.resume("b")
        await until_blocked()
        assert waiting.entered.is_set()
        last = await Visitor(lanes, "c", principal="alice").arrived()
        assert await lanes.drain(timeout=0) == 1
        with pytest.raises(errors.LanesDraining):
            await last.task
        await waiting.leave()
        assert leftovers(lanes) == []


class TestWaiting:
    """`max_waiting_per_principal`."""

    @on_virtual_time
    async def test_no_more_wait_than_may_over_all_keys(self) -> None:
        """The second of alice's is refused, wherever it comes; bob's and nobody's are not."""
        lanes = loop_lanes(**AT_MOST_ONE_WAITS)
        holders = [await Visitor(lanes, key).arrived() for key in "ab"]
        first = await Visitor(lanes, "a", principal="alice").arrived()
        with pytest.raises(errors.PrincipalCapacityExceeded) as full:
            await lanes.turn("b", principal="alice").__aenter__()
        assert (full.value.resource, full.value.limit) == ("max_waiting_per_principal", 1)
        others = [await Visitor(lanes, "b", principal=who).arrived() for who in ("bob", None, None)]
        first.task.cancel()
        await until_blocked()
        again = await Visitor(lanes, "b", principal="alice").arrived()
        for visitor in (*holders, *others, again):
            await visitor.leave()
        assert lanes.statistics().totals["capacity"] == 1
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_who_interrupts_takes_the_place_of_those_it_supersedes(self) -> None:
        """Its own line is emptied by it, so what stands there does not count; what waits elsewhere does."""
        lanes = loop_lanes(**AT_MOST_ONE_WAITS)
        holder = await Visitor(lanes, "a").arrived()
        other = await Visitor(lanes, "b").arrived()
        superseded = await Visitor(lanes, "a", principal="alice").arrived()
        interrupting = await Visitor(lanes, "a", policy=Interrupt(grace=60), principal="alice").arrived()
        with pytest.raises(errors.TurnInterrupted):
            await superseded.task
        with pytest.raises(errors.PrincipalCapacityExceeded):
            await lanes.turn("b", policy=Interrupt(grace=60), principal="alice").__aenter__()
        assert other.turn is not None
        assert not other.turn.interrupted
        for visitor in (other, holder, interrupting):
            await visitor.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_turn_nested_in_one_that_runs_is_let_in(self) -> None:
        """Else a turn that runs would fail for what its principal does elsewhere."""
        lanes = loop_lanes(**AT_MOST_ONE_WAITS)
        holders = [await Visitor(lanes, key).arrived() for key in "ab"]
        waiting = await Visitor(lanes, "a", principal="alice").arrived()
        async with lanes.turn("c", principal="alice"):
            nested = await Visitor(lanes, "b", principal="alice", inside=True).arrived()
            assert not nested.entered.is_set()
            for visitor in (*holders, nested, waiting):
                await visitor.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_messages_that_gather_count_each(self) -> None:
        """A group of two is two that wait."""
        lanes = loop_lanes(max_waiting_per_principal=2)
        gather = Coalesce(window=1, merge=tuple)
        holder = await Visitor(lanes, "a").arrived()
        both = [await Visitor(lanes, "a", policy=gather, message=text, principal="alice").arrived() for text in "xy"]
        with pytest.raises(errors.PrincipalCapacityExceeded):
            await lanes.turn("a", policy=gather, message="z", principal="alice").__aenter__()
        await holder.leave()
        with pytest.raises(errors.TurnCoalesced):
            await both[0].task
        assert both[1].turn is not None
        assert both[1].turn.message == ("x", "y")
        await both[1].leave()
        assert leftovers(lanes) == []


@pytest.mark.parametrize("name", ["max_running_per_principal", "max_waiting_per_principal"])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "3"])
def test_a_cap_is_a_number_of_at_least_one(name: str, wrong: object) -> None:
    """What is not is refused where it is given."""
    with pytest.raises(ValueError, match=name):
        Lanes(**{name: wrong})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_principal_can_be_hashed() -> None:
    """It is counted by it."""
    with pytest.raises(TypeError, match="unhashable"):
        Lanes().turn("a", principal=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
