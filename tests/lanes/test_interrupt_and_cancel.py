"""Interruptions and other cancellations of the same task, told apart."""

import asyncio
import random
from collections.abc import Awaitable, Callable, MutableSequence
from typing import Any

import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time
from support.seeded_loop import SeededLoop, until_blocked
from turnlane import Lanes, errors


class LastFirst(random.Random):
    """Draws the reverse of the usual order."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        """Turn it round."""
        x.reverse()


async def cancel_before(task: "asyncio.Task[None]", lanes: Lanes) -> None:
    task.cancel()
    lanes.interrupt("a", grace=0)
    await asyncio.sleep(0)


async def cancel_after(task: "asyncio.Task[None]", lanes: Lanes) -> None:
    lanes.interrupt("a", grace=0)
    await asyncio.sleep(0)
    task.cancel()


async def cancel_in_cleanup(task: "asyncio.Task[None]", lanes: Lanes) -> None:
    lanes.interrupt("a", grace=0)
    await asyncio.sleep(1)
    task.cancel()


class TestOtherCancellations:
    """An interruption is told apart from a cancellation by others, which always wins."""

    @pytest.mark.parametrize("others", [cancel_before, cancel_after, cancel_in_cleanup])
    @on_virtual_time
    async def test_a_holder_that_others_cancel_too_reports_the_cancellation(
        self, others: Callable[["asyncio.Task[None]", Lanes], Awaitable[None]]
    ) -> None:
        """Before, in the same pass, or while it cleans up: whoever cancelled it finds it cancelled."""
        lanes = loop_lanes()

        async def clean_up(visitor: Visitor) -> None:
            try:
                await visitor.released.wait()
            finally:
                await visitor.hold(5)

        holder = await Visitor(lanes, during=clean_up).arrived()
        await others(holder.task, lanes)
        assert isinstance(await holder.result(), asyncio.CancelledError)
        assert holder.task.cancelled()
        assert lanes.statistics().totals == {"completed": 0, "cancelled": 1}

    @pytest.mark.parametrize("late", [0.0, 1.0])
    @on_virtual_time
    async def test_a_timeout_around_the_turn_that_ends_with_the_grace_is_that_timeout(self, late: float) -> None:
        """`asyncio.timeout` outside the turn raises its own TimeoutError, as without lanes."""
        lanes = loop_lanes()

        async def clean_up() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(2)

        async def visit() -> None:
            async with asyncio.timeout(3 + late), lanes.turn("a"):
                await clean_up()

        task = asyncio.create_task(visit())
        await until_blocked()
        lanes.interrupt("a", grace=3)
        with pytest.raises(TimeoutError):
            await task

    @on_virtual_time
    async def test_a_timeout_inside_the_turn_that_ends_with_the_grace_is_an_interruption(self) -> None:
        """Its cancellation was taken back inside, so nobody but the lane has cancelled the task."""
        lanes = loop_lanes()

        async def impatient(visitor: Visitor) -> None:
            async with asyncio.timeout(3):
                await visitor.released.wait()

        holder = await Visitor(lanes, during=impatient).arrived()
        lanes.interrupt("a", grace=3)
        assert isinstance(await holder.result(), errors.TurnInterrupted)

    @pytest.mark.parametrize("first", ["inner", "outer"])
    @on_virtual_time
    async def test_two_turns_of_one_task_are_interrupted_at_once(self, first: str) -> None:
        """Whichever is cancelled first, what leaves the outer one is its interruption."""
        lanes = loop_lanes()

        async def visit() -> None:
            async with lanes.turn("outer"), lanes.turn("inner"):
                await asyncio.Event().wait()

        task = asyncio.create_task(visit())
        await until_blocked()
        for key in (first, {"inner": "outer", "outer": "inner"}[first]):
            assert lanes.interrupt(key, grace=0)
        with pytest.raises(errors.TurnInterrupted) as interrupted:
            await task
        assert interrupted.value.key == "outer"
        assert leftovers(lanes) == []

    def test_a_turn_interrupted_between_hand_over_and_wake_up_never_runs(self) -> None:
        """On a loop that runs what came last first, the cancellation is there before the hand-over is noticed."""

        async def main() -> None:
            lanes = loop_lanes()
            async with lanes.turn("a"):
                second = await Visitor(lanes).arrived()
                third = await Visitor(lanes).arrived()
            assert lanes.interrupt("a", grace=0)
            error = await second.result()
            assert isinstance(error, errors.TurnInterrupted)
            assert (error.running, second.turn) == (True, None)
            await third.leave()
            assert lanes.statistics().totals == {"completed": 2, "interrupted": 1}
            assert leftovers(lanes) == []

        with SeededLoop(LastFirst()) as loop:
            loop.run(main())

    @on_virtual_time
    async def test_the_task_of_an_interrupted_turn_can_go_on(self) -> None:
        """The cancellation is taken back: task groups and timeouts around the turn work as before."""
        lanes = loop_lanes()

        async def visit() -> str:
            with pytest.raises(errors.TurnInterrupted):
                async with lanes.turn("a"):
                    await asyncio.Event().wait()
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(1))
            return "went on"

        task = asyncio.create_task(visit())
        await until_blocked()
        lanes.interrupt("a", grace=0)
        assert await task == "went on"
