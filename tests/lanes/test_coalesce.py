"""Messages that wait side by side become one turn."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time, running_loop
from support.seeded_loop import until_blocked
from turnlane import Coalesce, Enqueue, Interrupt, Lanes, errors
from turnlane.hooks import TurnCoalescing, TurnRefused

PLAIN = Coalesce(window=0.5, merge="+".join)


class Refused(Exception):
    """What a merge that will not raises."""


def refuse(messages: object) -> object:
    """Merge nothing."""
    raise Refused(messages)


async def line(lanes: Lanes, *messages: str, policy: Coalesce = PLAIN, **options: Any) -> list[Visitor]:
    """Send messages, one after the other; return their senders."""
    return [await Visitor(lanes, policy=policy, message=message, **options).arrived() for message in messages]


async def outcome(visitor: Visitor) -> BaseException | None:
    """Return the error a visitor ended with."""
    try:
        await visitor.task
    except BaseException as error:
        return error
    return None


async def handed_over(lanes: Lanes) -> None:
    """Go on in the very pass of the loop after which nobody stands in line: who has the lane does not know it yet."""
    for _ in range(10):
        if not lanes.statistics().waiting:
            return
        await asyncio.sleep(0)
    raise RuntimeError("somebody still waits")


class TestOneTurn:
    """Who becomes part of whose turn, when."""

    @on_virtual_time
    async def test_an_idle_lane_is_had_at_once(self) -> None:
        """No window before the first message."""
        lanes = loop_lanes()
        first = await Visitor(lanes, policy=PLAIN, message="one").arrived()
        assert not first.waiting
        assert (first.held.messages, first.held.message) == (("one",), "one")

    @on_virtual_time
    async def test_those_who_wait_become_the_turn_of_the_newest(self) -> None:
        """In the order of arrival, merged; the others are told whose turn it is, and the line is one turn long."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        one, two, three = await line(lanes, "one", "two", "three")
        late = await Visitor(lanes, message="late").arrived()
        holder.release()
        await three.entered.wait()
        assert (three.held.messages, three.held.message) == (("one", "two", "three"), "one+two+three")
        assert (three.held.position, three.held.dropped) == (1, ())
        for visitor in (one, two):
            error = await outcome(visitor)
            assert isinstance(error, errors.TurnCoalesced)
            assert (error.key, error.into, error.result) == ("a", three.held.id, None)
        assert late.waiting
        three.release()
        await late.entered.wait()
        assert (late.held.messages, late.held.position) == (("late",), 2)
        late.release()
        await late.task
        assert lanes.statistics().totals == {"completed": 3, "coalesced": 2}
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_the_window_begins_with_the_newest(self) -> None:
        """Half a second of quiet after the last message, while nobody runs."""
        lanes, loop = loop_lanes(), running_loop()
        holder = await Visitor(lanes).arrived()
        [one] = await line(lanes, "one")
        holder.release()
        began = loop.time()
        await asyncio.sleep(0.25)
        [two] = await line(lanes, "two")
        await two.entered.wait()
        assert loop.time() - began == 0.75
        assert two.held.messages == ("one", "two")
        assert isinstance(await outcome(one), errors.TurnCoalesced)

    @on_virtual_time
    async def test_a_window_that_has_passed_is_not_waited_for_again(self) -> None:
        """The turn that runs took longer than the window."""
        lanes, loop = loop_lanes(), running_loop()
        holder = await Visitor(lanes).arrived()
        _, two = await line(lanes, "one", "two")
        await asyncio.sleep(3)
        began = loop.time()
        holder.release()
        await two.entered.wait()
        assert loop.time() == began

    @on_virtual_time
    async def test_others_wait_behind_the_window(self) -> None:
        """Whoever comes while a group waits for quiet stands behind it, whatever its policy."""
        lanes, loop = loop_lanes(), running_loop()
        holder = await Visitor(lanes).arrived()
        [one] = await line(lanes, "one")
        late = await Visitor(lanes).arrived()
        holder.release()
        await until_blocked()
        assert (one.waiting, late.waiting, lanes.statistics().running) == (True, True, 0)
        began = loop.time()
        await one.entered.wait()
        assert loop.time() - began == 0.5
        one.release()
        await late.entered.wait()

    @on_virtual_time
    async def test_only_those_side_by_side(self) -> None:
        """A turn between two messages keeps them apart."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        [one] = await line(lanes, "one")
        between = await Visitor(lanes, message="between").arrived()
        [two] = await line(lanes, "two")
        for visitor in (holder, one, between, two):
            visitor.release()
        await two.entered.wait()
        assert [visitor.held.messages for visitor in (one, between, two)] == [("one",), ("between",), ("two",)]

    @on_virtual_time
    async def test_only_those_of_one_principal(self) -> None:
        """Nobody speaks with the rights of another."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        [one] = await line(lanes, "one", principal="alice")
        two, three = await line(lanes, "two", "three", principal="bob")
        for visitor in (holder, one, three):
            visitor.release()
        await three.entered.wait()
        assert (one.held.messages, three.held.messages) == (("one",), ("two", "three"))
        assert isinstance(await outcome(two), errors.TurnCoalesced)

    @on_virtual_time
    async def test_only_those_of_one_policy_but_for_how_long_they_wait(self) -> None:
        """Another merge is another turn; another `wait_timeout` is not."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        [one] = await line(lanes, "one", policy=replace(PLAIN, merge=None))
        await line(lanes, "two")
        [three] = await line(lanes, "three", policy=replace(PLAIN, wait_timeout=7.0))
        for visitor in (holder, one, three):
            visitor.release()
        await three.entered.wait()
        assert (one.held.messages, three.held.messages) == (("one",), ("two", "three"))

    @on_virtual_time
    async def test_a_nested_turn_stands_alone(self) -> None:
        """The turn around it could not end without it."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        [one] = await line(lanes, "one")

        async def inside(_: Visitor) -> None:
            async with lanes.turn("a", policy=PLAIN, message="nested") as turn:
                assert turn.messages == ("nested",)

        outer = await Visitor(lanes, "b", during=inside).arrived()
        holder.release()
        one.release()
        await outer.task
        assert one.held.messages == ("one",)

    @on_virtual_time
    async def test_without_a_merge_the_messages_are_there(self) -> None:
        """`turn.message` is the newest then."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        _, two = await line(lanes, "one", "two", policy=Coalesce(window=0))
        holder.release()
        await two.entered.wait()
        assert (two.held.messages, two.held.message) == (("one", "two"), "two")

    @on_virtual_time
    async def test_a_group_that_somebody_joins_gives_up_its_claim_to_a_running_slot(self) -> None:
        """It is not ready again before its window is over; another key goes first."""
        lanes = loop_lanes(max_running=1)
        holder = await Visitor(lanes, "other").arrived()
        [one] = await line(lanes, "one")
        await asyncio.sleep(1)
        third = await Visitor(lanes, "third").arrived()
        [two] = await line(lanes, "two")
        holder.release()
        await until_blocked()
        assert (third.waiting, two.waiting) == (False, True)
        third.release()
        await two.entered.wait()
        assert two.held.messages == ("one", "two")
        assert isinstance(await outcome(one), errors.TurnCoalesced)


class TestLeaving:
    """Members of a group that leave it take their own message with them, and no other."""

    @on_virtual_time
    async def test_the_newest_leaves(self) -> None:
        """The next newest carries the rest."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        one, two, three = await line(lanes, "one", "two", "three")
        three.task.cancel()
        holder.release()
        await two.entered.wait()
        assert two.held.messages == ("one", "two")
        assert isinstance(await outcome(one), errors.TurnCoalesced)

    @on_virtual_time
    async def test_the_newest_is_cancelled_when_it_has_the_lane_and_does_not_know(self) -> None:
        """Nobody was told anything yet: the others stand where they stood, and go on at once."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        one, two, three = await line(lanes, "one", "two", "three")
        await asyncio.sleep(1)
        holder.release()
        await handed_over(lanes)
        three.task.cancel()
        await two.entered.wait()
        assert three.task.cancelled()
        assert three.turn is None
        assert two.held.messages == ("one", "two")
        assert isinstance(await outcome(one), errors.TurnCoalesced)
        two.release()
        await two.task
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_all_leave_while_the_lane_waits_for_the_window(self) -> None:
        """Whoever stands behind them does not wait for a window of nobody's."""
        lanes, loop = loop_lanes(), running_loop()
        holder = await Visitor(lanes).arrived()
        one, two = await line(lanes, "one", "two", policy=Coalesce(window=60))
        behind = await Visitor(lanes).arrived()
        holder.release()
        await until_blocked()
        began = loop.time()
        one.task.cancel()
        two.task.cancel()
        await behind.entered.wait()
        assert loop.time() == began
        behind.release()
        await behind.task
        assert leftovers(lanes) == []
        assert loop.armed() == []

    @on_virtual_time
    async def test_each_waits_as_long_as_it_may(self) -> None:
        """`wait_timeout` is of a message, not of its group."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        [one] = await line(lanes, "one", policy=replace(PLAIN, wait_timeout=2.0))
        [two] = await line(lanes, "two")
        assert isinstance(await outcome(one), errors.WaitTimeout)
        holder.release()
        await two.entered.wait()
        assert two.held.messages == ("two",)

    @on_virtual_time
    async def test_an_interruption_supersedes_those_who_were_not_told_yet(self) -> None:
        """Carried by a turn that has its lane and does not know: they arrived before the interruption, and end."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        one, two = await line(lanes, "one", "two")
        await asyncio.sleep(1)
        holder.release()
        await handed_over(lanes)
        newest = Visitor(lanes, policy=Interrupt(grace=0.0), message="newest")
        two.task.cancel()
        await newest.entered.wait()
        assert isinstance(await outcome(one), errors.TurnInterrupted | errors.TurnCoalesced)
        newest.release()
        await newest.task
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_drain_tells_all_of_them(self) -> None:
        """Nobody moves up meanwhile to a lane that is free but for the window."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        one, two = await line(lanes, "one", "two")
        behind = await Visitor(lanes).arrived()
        holder.release()
        await holder.task
        await lanes.drain()
        for visitor in (one, two, behind):
            assert isinstance(await outcome(visitor), errors.LanesDraining)


class TestMerging:
    """What a merge that raises does, and how much is merged."""

    @on_virtual_time
    async def test_a_merge_that_raises_is_the_failure_of_one(self) -> None:
        """Its error leaves the newest; each of the others becomes a turn of its own, in order."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        one, two, three = await line(lanes, "one", "two", "three", policy=Coalesce(window=0, merge=refuse))
        for visitor in (holder, one, two):
            visitor.release()
        error = await outcome(three)
        assert isinstance(error, Refused)
        assert error.args == (("one", "two", "three"),)
        await two.task
        assert (one.held.messages, two.held.messages) == (("one",), ("two",))
        assert (one.ended or 0) <= (two.began or 0)
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_full_group_refuses_and_does_not_wait_for_quiet(self) -> None:
        """`max_merged` messages are enough."""
        lanes, loop = loop_lanes(), running_loop()
        holder = await Visitor(lanes).arrived()
        policy = replace(PLAIN, max_merged=2, window=60.0)
        _, two = await line(lanes, "one", "two", policy=policy)
        with pytest.raises(errors.LaneFull) as full:
            await Visitor(lanes, policy=policy, message="three").task
        assert (full.value.waiting, full.value.max_waiting) == (2, 2)
        began = loop.time()
        holder.release()
        await two.entered.wait()
        assert loop.time() == began

    @on_virtual_time
    async def test_a_full_group_may_drop_its_oldest(self) -> None:
        """Which is told who came, and the turn is told what was dropped."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        policy = replace(PLAIN, max_merged=2, overflow="oldest")
        one, two, three, four = await line(lanes, "one", "two", "three", "four", policy=policy)
        for visitor in (one, two):
            error = await outcome(visitor)
            assert isinstance(error, errors.TurnInterrupted)
            assert not error.running
        holder.release()
        await four.entered.wait()
        assert (four.held.messages, four.held.dropped) == (("three", "four"), ("one", "two"))
        assert isinstance(await outcome(three), errors.TurnCoalesced)

    @on_virtual_time
    async def test_one_message_at_most_may_be_merged(self) -> None:
        """With `max_merged=1` and `oldest` the newest message is the one that counts."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        policy = replace(PLAIN, max_merged=1, overflow="oldest")
        one, two = await line(lanes, "one", "two", policy=policy)
        holder.release()
        await two.entered.wait()
        assert isinstance(await outcome(one), errors.TurnInterrupted)
        assert (two.held.messages, two.held.dropped) == (("two",), ("one",))
        two.release()
        await two.task
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_group_is_one_in_line(self) -> None:
        """`max_waiting` counts turns, so a group has room where another turn has none."""
        lanes = loop_lanes()
        await Visitor(lanes).arrived()
        await line(lanes, "one", "two", "three", policy=replace(PLAIN, max_waiting=1))
        with pytest.raises(errors.LaneFull):
            await Visitor(lanes, policy=Enqueue(max_waiting=1)).task

    @on_virtual_time
    async def test_a_result_that_is_shared(self) -> None:
        """The others wait until the turn has ended, longer than they would wait in line, and get what it shared."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        one, two = await line(lanes, "one", "two", policy=replace(PLAIN, share_result=True, wait_timeout=5.0))
        holder.release()
        await two.entered.wait()
        await asyncio.sleep(60)
        assert one.waiting
        two.held.share("the answer")
        two.release()
        error = await outcome(one)
        assert isinstance(error, errors.TurnCoalesced)
        assert (error.into, error.result) == (two.held.id, "the answer")
        assert leftovers(lanes) == []

    @pytest.mark.parametrize("failure", [Refused(), asyncio.CancelledError()], ids=repr)
    @on_virtual_time
    async def test_a_turn_that_fails_has_no_result_although_it_has_shared_one(self, failure: BaseException) -> None:
        """The others would take for an answer what its own caller was never given."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()

        async def fail(visitor: Visitor) -> None:
            visitor.held.share("half an answer")
            raise failure

        policy = replace(PLAIN, share_result=True)
        [one] = await line(lanes, "one", policy=policy)
        [two] = await line(lanes, "two", policy=policy, during=fail)
        holder.release()
        error = await outcome(one)
        assert isinstance(error, errors.TurnCoalesced)
        assert error.result is None
        assert type(await outcome(two)) is type(failure)
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_who_waits_for_a_result_may_leave(self) -> None:
        """Its message is part of the turn all the same."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        one, two = await line(lanes, "one", "two", policy=replace(PLAIN, share_result=True))
        holder.release()
        await two.entered.wait()
        one.task.cancel()
        await outcome(one)
        two.release()
        await two.task
        assert two.held.messages == ("one", "two")
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_hooks_are_told_once_of_each(self) -> None:
        """As coalesced, not as refused."""
        lanes = loop_lanes()
        heard: list[object] = []
        lanes.hooks.on(TurnCoalescing, heard.append)
        lanes.hooks.on(TurnRefused, heard.append)
        holder = await Visitor(lanes).arrived()
        one, two = await line(lanes, "one", "two")
        holder.release()
        await two.entered.wait()
        error = await outcome(one)
        assert isinstance(error, errors.TurnCoalesced)
        assert heard == [TurnCoalescing(key="a", turn=error.turn, into=two.held.id)]


@pytest.mark.parametrize(
    ("named", "arguments"),
    [
        ("window", {"window": -1}),
        ("merge", {"merge": "+"}),
        ("max_merged", {"max_merged": None}),
        ("max_merged", {"max_merged": 0}),
        ("overflow", {"overflow": "newest"}),
        ("max_waiting", {"max_waiting": -1}),
        ("wait_timeout", {"wait_timeout": "soon"}),
    ],
)
def test_a_wrong_argument_is_named(named: str, arguments: dict[str, Any]) -> None:
    """Where it is given."""
    with pytest.raises(ValueError, match=named):
        Coalesce(**arguments)


@pytest.mark.parametrize("policy", ["coalesce", "steer"])
def test_a_message_is_needed(policy: str) -> None:
    """Without one there is nothing another turn could answer."""
    with pytest.raises(ValueError, match="message="):
        Lanes().turn("a", policy=policy)
