"""Interrupting a running turn: asked at once, cancelled once, and never run beside its successor."""

import asyncio

import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time, running_loop
from turnlane import Interrupt, Lanes, errors
from turnlane.hooks import TurnInterruption
from turnlane.testing import Gates


def newcomer(lanes: Lanes, *, grace: float = 5.0, wait_timeout: float | None = None) -> Visitor:
    return Visitor(lanes, policy=Interrupt(grace=grace, wait_timeout=wait_timeout))


class TestTheInterruptedTurn:
    """What the running turn sees, and what leaves its block."""

    @on_virtual_time
    async def test_it_is_asked_at_once_and_cancelled_when_its_grace_is_over(self) -> None:
        """`interrupted` is true as soon as the newcomer has arrived; the cancellation comes `grace` seconds later."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        began = running_loop().time()
        successor = await newcomer(lanes, grace=3).arrived()
        assert holder.held.interrupted
        assert not holder.task.done()
        assert isinstance(await holder.result(), errors.TurnInterrupted)
        assert holder.ended == began + 3
        await successor.entered.wait()
        assert successor.began == holder.ended

    @on_virtual_time
    async def test_a_turn_may_wait_for_being_asked(self) -> None:
        """`wait_interrupted` returns in the moment of the request, for all who wait, and at once for who asks later."""
        lanes = loop_lanes()
        moments: list[float] = []

        async def listen(visitor: Visitor) -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(2):
                    group.create_task(visitor.held.wait_interrupted())
            moments.append(running_loop().time())
            await visitor.held.wait_interrupted()

        holder = await Visitor(lanes, during=listen).arrived()
        await asyncio.sleep(10)
        asked = running_loop().time()
        successor = newcomer(lanes, grace=60)
        assert await holder.result() is None
        assert moments == [asked]
        await successor.entered.wait()
        assert successor.began == asked

    @on_virtual_time
    async def test_a_turn_that_ends_within_its_grace_has_completed(self) -> None:
        """Nothing is cancelled, nothing raised, and the timer is gone."""
        lanes = loop_lanes()
        holder = await Visitor(lanes, during=lambda visitor: visitor.hold(2)).arrived()
        successor = await newcomer(lanes, grace=4).arrived()
        assert await holder.result() is None
        assert holder.cancels == 0
        await successor.leave()
        assert lanes.statistics().totals == {"completed": 2}
        assert running_loop().armed() == []

    @on_virtual_time
    async def test_its_cleanup_is_awaited_before_the_successor_starts(self) -> None:
        """However long it takes, and whatever it awaits."""
        lanes = loop_lanes()
        seen: list[str] = []

        async def clean_up(visitor: Visitor) -> None:
            try:
                await visitor.released.wait()
            finally:
                for part in ("lock", "write", "close"):
                    await asyncio.sleep(100)
                    seen.append(part)

        holder = await Visitor(lanes, during=clean_up).arrived()
        successor = newcomer(lanes, grace=0)
        await successor.entered.wait()
        assert seen == ["lock", "write", "close"]
        assert isinstance(await holder.result(), errors.TurnInterrupted)
        assert successor.began == holder.ended

    @on_virtual_time
    async def test_a_turn_that_swallows_the_cancellation_never_runs_beside_its_successor(self) -> None:
        """It is cancelled once, however many ask and however long it goes on; its successor waits for its end."""
        lanes = loop_lanes()
        holder = await Visitor(lanes, during=lambda visitor: visitor.hold(1000)).arrived()
        first = await newcomer(lanes, grace=1).arrived()
        await asyncio.sleep(50)
        second = await newcomer(lanes, grace=1).arrived()
        await asyncio.sleep(50)
        assert not lanes.interrupt("a", grace=1)
        assert isinstance(await first.result(), errors.TurnInterrupted)
        await second.entered.wait()
        assert await holder.result() is None
        assert (holder.cancels, second.began) == (1, holder.ended)
        assert lanes.statistics().totals == {"completed": 1, "superseded": 1}

    @on_virtual_time
    async def test_a_second_request_with_less_patience_counts(self) -> None:
        """The turn is cancelled, once, when the first grace is over; one with more patience gives it no more time."""
        lanes = loop_lanes()
        began = running_loop().time()
        holder = await Visitor(lanes).arrived()
        newcomers = [await newcomer(lanes, grace=grace).arrived() for grace in (60, 2, 30)]
        error = await holder.result()
        assert isinstance(error, errors.TurnInterrupted)
        assert holder.ended == began + 2
        await newcomers[-1].entered.wait()
        assert lanes.statistics().totals == {"completed": 0, "interrupted": 1, "superseded": 2}

    @on_virtual_time
    async def test_the_error_says_what_became_of_it(self) -> None:
        """Which turn, of which lane, into which turn; and that it had been running."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        successor = newcomer(lanes, grace=0)
        error = await holder.result()
        assert isinstance(error, errors.TurnInterrupted)
        assert isinstance(error.__cause__, asyncio.CancelledError)
        await successor.entered.wait()
        assert (error.key, error.turn, error.into, error.running) == ("a", holder.held.id, successor.held.id, True)
        assert lanes.statistics().totals == {"completed": 0, "interrupted": 1}

    @on_virtual_time
    async def test_an_error_of_its_cleanup_goes_before_the_interruption(self) -> None:
        """What its own code raises is what its caller sees."""
        lanes = loop_lanes()

        async def fail(visitor: Visitor) -> None:
            try:
                await visitor.released.wait()
            finally:
                raise OSError("disk full")

        holder = await Visitor(lanes, during=fail).arrived()
        successor = newcomer(lanes, grace=0)
        with pytest.raises(OSError, match="disk full"):
            await holder.task
        await successor.entered.wait()
        assert lanes.statistics().totals == {"completed": 0, "failed": 1}


class TestTheLine:
    """Who waits when an Interrupt arrives, and who comes after it."""

    @on_virtual_time
    async def test_those_who_waited_are_superseded_and_those_who_come_later_wait(self) -> None:
        """The newcomer is next; earlier waiters end with TurnInterrupted(into=newcomer), none of them ran."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        earlier = [await Visitor(lanes).arrived() for _ in range(3)]
        successor = await newcomer(lanes, grace=10).arrived()
        later = await Visitor(lanes).arrived()
        facts: list[tuple[object, ...]] = []
        for visitor in earlier:
            error = await visitor.result()
            assert isinstance(error, errors.TurnInterrupted)
            facts.append((error.key, error.running, visitor.turn, error.into))
        assert not holder.task.done()
        await successor.entered.wait()
        assert facts == [("a", False, None, successor.held.id)] * 3
        assert (successor.held.position, later.waiting) == (1, True)
        await successor.leave()
        await later.leave()
        assert lanes.statistics().totals == {"completed": 2, "superseded": 3, "interrupted": 1}

    @on_virtual_time
    async def test_an_idle_lane_is_had_at_once(self) -> None:
        """There is nobody to interrupt."""
        lanes = loop_lanes(policy="interrupt")
        async with lanes.turn("a") as turn:
            assert not turn.interrupted
        assert lanes.statistics().totals == {"completed": 1}

    @on_virtual_time
    async def test_a_newcomer_gives_up_after_its_own_wait_timeout(self) -> None:
        """The running turn has been asked and cancelled all the same; who comes next has to wait for its end."""
        lanes = loop_lanes()
        holder = await Visitor(lanes, during=lambda visitor: visitor.hold(100)).arrived()
        error = await newcomer(lanes, grace=1, wait_timeout=10).result()
        assert isinstance(error, errors.WaitTimeout)
        assert (error.wait_timeout, error.holder) == (10, holder.held.id)
        assert (holder.cancels, holder.held.interrupted) == (1, True)
        assert (await Visitor(lanes).arrived()).waiting

    @on_virtual_time
    async def test_a_newcomer_that_leaves_does_not_take_the_interruption_back(self) -> None:
        """The running turn was promised an end; the next one in line gets the lane."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        gone = await newcomer(lanes, grace=5).arrived()
        later = await Visitor(lanes).arrived()
        gone.task.cancel()
        assert isinstance(await holder.result(), errors.TurnInterrupted)
        await later.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_other_keys_are_not_touched(self) -> None:
        """An interruption is of one lane."""
        lanes = loop_lanes()
        other, waiting = await Visitor(lanes, "b").arrived(), await Visitor(lanes, "b").arrived()
        await Visitor(lanes, "a").arrived()
        await newcomer(lanes, grace=0).entered.wait()
        assert not other.held.interrupted
        assert waiting.waiting


class TestTheOperator:
    """`lanes.interrupt(key)`: the same without a newcomer."""

    @on_virtual_time
    async def test_those_who_wait_move_up(self) -> None:
        """Nobody is superseded; the error names no successor."""
        lanes = loop_lanes()
        holder, second, third = [await Visitor(lanes).arrived() for _ in range(3)]
        assert lanes.interrupt(" a ", grace=2)
        error = await holder.result()
        assert isinstance(error, errors.TurnInterrupted)
        assert (error.into, "operator" in str(error)) == (None, True)
        await second.entered.wait()
        assert not second.held.interrupted
        assert third.waiting

    @on_virtual_time
    async def test_it_says_whether_there_was_a_turn_to_ask(self) -> None:
        """Not for an idle lane, and not for a turn that has been asked before."""
        lanes = loop_lanes()
        assert not lanes.interrupt("a")
        await Visitor(lanes).arrived()
        assert lanes.interrupt("a")
        assert not lanes.interrupt("a")

    @on_virtual_time
    async def test_a_turn_may_interrupt_itself(self) -> None:
        """It is not cut in mid-step, also without any grace."""
        lanes = loop_lanes()
        seen: list[str] = []

        async def stop_myself(visitor: Visitor) -> None:
            lanes.interrupt("a", grace=0)
            assert visitor.held.interrupted
            seen.append("went on to the next await")
            await visitor.released.wait()

        holder = Visitor(lanes, during=stop_myself)
        assert isinstance(await holder.result(), errors.TurnInterrupted)
        assert seen == ["went on to the next await"]

    @on_virtual_time
    async def test_the_request_is_told_to_listeners_once(self) -> None:
        """With who asked, and how long the turn has."""
        lanes = loop_lanes()
        with Gates(lanes.hooks) as gates:
            holder = await Visitor(lanes, during=lambda visitor: visitor.hold(9)).arrived()
            lanes.interrupt("a", grace=1)
            successor = await newcomer(lanes, grace=2).arrived()
            await successor.entered.wait()
            told = gates.at(TurnInterruption).seen
        assert [(event.key, event.turn, event.by, event.grace) for event in told] == [("a", holder.held.id, None, 1)]
