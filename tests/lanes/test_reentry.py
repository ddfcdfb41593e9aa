"""Waiting that would never end is refused before it begins: one chain, and cycles between several lanes."""

# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time
from support.seeded_loop import until_blocked
from turnlane import Enqueue, Interrupt, Lanes, Reject, errors
from turnlane.policies import Policy


async def enter(lanes: Lanes, key: str, policy: Policy | None = None) -> None:
    async with lanes.turn(key, policy=policy):
        pass


async def in_a_child(lanes: Lanes, key: str) -> None:
    await asyncio.create_task(enter(lanes, key))


async def in_a_group(lanes: Lanes, key: str) -> None:
    async def below() -> None:
        await asyncio.gather(asyncio.create_task(enter(lanes, key)))

    await asyncio.create_task(below())


async def in_a_nested_turn(lanes: Lanes, key: str) -> None:
    async with lanes.turn("between"):
        await enter(lanes, key)


class TestOneChain:
    """A turn's chain: its own task and what that starts."""

    @pytest.mark.parametrize("ask", [enter, in_a_child, in_a_group, in_a_nested_turn])
    @on_virtual_time
    async def test_a_chain_can_not_wait_for_a_lane_it_holds(self, ask: Callable[[Lanes, str], Awaitable[None]]) -> None:
        """From the task itself, from tasks below it, from a turn inside; the lane stays what it was."""
        lanes = loop_lanes()
        async with lanes.turn("a") as turn:
            with pytest.raises(errors.LaneReentry) as refused:
                await ask(lanes, "a")
            assert isinstance(refused.value, RuntimeError)
            assert (refused.value.key, refused.value.cycle) == ("a", ("a",))
            assert turn.running
            assert lanes.statistics().waiting == 0
        assert lanes.statistics().totals["reentry"] == 1
        assert leftovers(lanes) == []

    @pytest.mark.parametrize("policy", [Enqueue(max_waiting=0), Reject(), Interrupt(grace=0)])
    @on_virtual_time
    async def test_whatever_the_policy_it_is_told_as_re_entry(self, policy: Policy) -> None:
        """Above all nobody interrupts the turn it runs in by asking for its lane, or those who wait for it."""
        lanes = loop_lanes()
        async with lanes.turn("a") as turn:
            stranger = await Visitor(lanes).arrived()
            with pytest.raises(errors.LaneReentry):
                await enter(lanes, "a", policy)
            await asyncio.sleep(1)
            assert not turn.interrupted
            assert stranger.waiting

    @on_virtual_time
    async def test_a_lane_of_the_chain_further_out_is_refused_too(self) -> None:
        """Three deep, asking for the outermost."""
        lanes = loop_lanes()
        async with lanes.turn("a"), lanes.turn("b"), lanes.turn("c"):
            with pytest.raises(errors.LaneReentry):
                await enter(lanes, "a")
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_siblings_may_wait_for_each_other(self) -> None:
        """Two children of one turn ask for one lane: one waits for the other."""
        lanes = loop_lanes()
        async with lanes.turn("a"):
            first, second = Visitor(lanes, "b", inside=True), Visitor(lanes, "b", inside=True)
            await until_blocked()
            assert second.waiting
            await first.leave()
            await second.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_two_lanes_objects_are_strangers(self) -> None:
        """The same key of another `Lanes` is another lane."""
        lanes, others = loop_lanes(), loop_lanes()
        async with lanes.turn("a"), others.turn("a"):
            pass
        assert leftovers(lanes) == leftovers(others) == []


class Ring:
    """Turns of several keys, each of which asks for the lane of the next when it is told to.

    Mutable: `go`, what each waits for, and `refused`, the cycles of those who were refused.
    """

    def __init__(self, lanes: Lanes, keys: str) -> None:
        self.lanes = lanes
        self.keys = keys
        self.go = {key: asyncio.Event() for key in keys}
        self.refused: dict[str, tuple[str, ...]] = {}
        self.visitors = {key: Visitor(lanes, key, during=self._visit) for key in keys}

    async def _visit(self, visitor: Visitor) -> None:
        key = visitor.held.key
        await self.go[key].wait()
        following = self.keys[(self.keys.index(key) + 1) % len(self.keys)]
        try:
            await asyncio.create_task(enter(self.lanes, following))
        except errors.LaneReentry as error:
            self.refused[key] = error.cycle

    async def ask(self, key: str) -> None:
        """Let the turn of a key ask for its next lane, and wait until it waits or was refused."""
        self.go[key].set()
        await until_blocked()


class TestCycles:
    """Between the lanes of several chains."""

    @pytest.mark.parametrize(
        ("keys", "order"), [("ab", "ab"), ("ab", "ba"), ("abc", "abc"), ("abc", "cab"), ("abcd", "dacb")]
    )
    @on_virtual_time
    async def test_who_would_close_a_cycle_is_refused_and_the_others_go_on(self, keys: str, order: str) -> None:
        """The last one to ask; the error lists the lanes from the one it asked for to the one it holds."""
        lanes = loop_lanes()
        ring = Ring(lanes, keys)
        await until_blocked()
        for key in order:
            await ring.ask(key)
        for visitor in ring.visitors.values():
            await visitor.task
        last = order[-1]
        place = keys.index(last) + 1
        assert ring.refused == {last: tuple(keys[place:] + keys[:place])}
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_row_is_no_cycle(self) -> None:
        """Three chains, each waiting for the next, end one after the other."""
        lanes = loop_lanes()
        ring = Ring(lanes, "abc")
        await until_blocked()
        await ring.ask("a")
        await ring.ask("b")
        assert lanes.statistics().waiting == 2
        ring.visitors["c"].task.cancel()
        for key in "ab":
            await ring.visitors[key].task
        assert ring.refused == {}
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_wait_that_was_given_up_closes_no_cycle(self) -> None:
        """The turn of b waited for a in vain; now that of a may wait for b."""
        lanes = loop_lanes()
        a_may_ask = asyncio.Event()

        async def ask_for_b(_: Visitor) -> None:
            await a_may_ask.wait()
            await enter(lanes, "b")

        async def ask_for_a_in_vain(visitor: Visitor) -> None:
            with pytest.raises(errors.WaitTimeout):
                await enter(lanes, "a", Enqueue(wait_timeout=1))
            await visitor.released.wait()

        first = Visitor(lanes, "a", during=ask_for_b)
        second = Visitor(lanes, "b", during=ask_for_a_in_vain)
        await asyncio.sleep(2)
        a_may_ask.set()
        await until_blocked()
        assert lanes.statistics().waiting == 1
        await second.leave()
        await first.task
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_cycle_through_one_of_several_children_is_seen(self) -> None:
        """The turn of a waits, by two children, for c and for b; that of b asks for a."""
        lanes = loop_lanes()
        await Visitor(lanes, "c").arrived()
        refused: list[tuple[str, ...]] = []

        async def ask_for_a(visitor: Visitor) -> None:
            await visitor.released.wait()
            try:
                await enter(lanes, "a")
            except errors.LaneReentry as error:
                refused.append(error.cycle)

        b = await Visitor(lanes, "b", during=ask_for_a).arrived()
        async with lanes.turn("a"):
            children = [await Visitor(lanes, key, inside=True).arrived() for key in "cb"]
            await b.leave()
            assert refused == [("a", "b")]
            for child in children:
                child.task.cancel()
            await asyncio.wait([child.task for child in children])

    @on_virtual_time
    async def test_children_that_wait_for_one_lane_are_looked_at_once(self) -> None:
        """Two children of b wait for c, whose turn asks for b: one cycle, told once."""
        lanes = loop_lanes()
        refused: list[tuple[str, ...]] = []

        async def ask_for_b(visitor: Visitor) -> None:
            await visitor.released.wait()
            try:
                await enter(lanes, "b")
            except errors.LaneReentry as error:
                refused.append(error.cycle)

        c = await Visitor(lanes, "c", during=ask_for_b).arrived()
        async with lanes.turn("b"):
            children = [await Visitor(lanes, key, inside=True).arrived() for key in "cc"]
            await c.leave()
            for child in children:
                await child.leave()
        assert refused == [("b", "c")]
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_who_waits_ahead_in_line_closes_no_cycle(self) -> None:
        """Whoever waits holds nothing for the line: b's child stands ahead of a's in c, and both are served."""
        lanes = loop_lanes()
        c = await Visitor(lanes, "c").arrived()
        ring = {key: Visitor(lanes, key, during=lambda _: enter(lanes, "c")) for key in "ba"}
        await until_blocked()
        assert lanes.statistics().waiting == 2
        await c.leave()
        for visitor in ring.values():
            await visitor.task
        assert leftovers(lanes) == []


class TestSeveralLanes:
    """Lanes that know nothing of each other, in one process."""

    @pytest.mark.parametrize("second_key", ["a", "b"])
    @on_virtual_time
    async def test_a_cycle_through_other_lanes_is_refused_at_once(self, second_key: str) -> None:
        """A turn of each asks for the lane the other one holds, by the same key or by another."""
        ones, others = loop_lanes(), loop_lanes()
        refused: list[tuple[str, ...]] = []

        async def cross(visitor: Visitor, lanes: Lanes, key: str) -> None:
            await visitor.released.wait()
            try:
                await enter(lanes, key)
            except errors.LaneReentry as error:
                refused.append(error.cycle)

        one = Visitor(ones, "a", during=lambda visitor: cross(visitor, others, second_key))
        other = Visitor(others, second_key, during=lambda visitor: cross(visitor, ones, "a"))
        await until_blocked()
        one.released.set()
        await until_blocked()
        assert others.statistics().waiting == 1
        other.released.set()
        await one.task
        await other.task
        assert refused == [("a", second_key)]
        assert leftovers(ones) == leftovers(others) == []
        assert one.held._nested is None
        assert other.held._nested is None

    @on_virtual_time
    async def test_lanes_of_the_same_key_in_other_lanes_are_other_lanes(self) -> None:
        """A turn of a key may enter the lane of that key elsewhere."""
        ones, others = loop_lanes(), loop_lanes()

        async def enter_there(_: Visitor) -> None:
            await enter(others, "a")

        await Visitor(ones, "a", during=enter_there).task
        assert leftovers(ones) == leftovers(others) == []
