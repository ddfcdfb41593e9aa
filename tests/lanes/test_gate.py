"""The ways into a lane that the middleware and generator turns use: without waiting, and by arriving first."""

import asyncio
import contextvars

import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time
from support.seeded_loop import until_blocked
from turnlane import Enqueue, Reject, Turn, current_turn, errors
from turnlane.hooks import TurnSlow, TurnStarted
from turnlane.lanes.scope import TurnScope
from turnlane.testing import Gates


class TestWaiting:
    """`gate.arrive` takes the place, `gate.wait` waits for it."""

    @on_virtual_time
    async def test_who_runs_need_not_wait(self) -> None:
        """It returns at once, as often as it is asked."""
        lanes = loop_lanes()
        turn = lanes.gate.arrive("a", Reject())
        for _ in range(2):
            await lanes.gate.wait(turn)
        assert turn.running
        lanes.gate.leave(turn, None)

    @on_virtual_time
    async def test_the_place_is_that_of_the_arrival(self) -> None:
        """Who arrived first is first, also if it begins to wait last."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        early = lanes.gate.arrive("a", Enqueue())
        late = await Visitor(lanes).arrived()
        await holder.leave()
        assert (early.running, early.position) == (True, 1)
        await lanes.gate.wait(early)
        assert late.waiting
        lanes.gate.leave(early, None)
        await late.leave()
        assert leftovers(lanes) == []

    @pytest.mark.parametrize("handed_over", [True, False])
    @on_virtual_time
    async def test_a_wait_that_is_cancelled_gives_the_place_up(self, handed_over: bool) -> None:
        """In the line and after the hand-over."""
        lanes = loop_lanes()
        holder = lanes.gate.arrive("a", Enqueue())

        async def wait() -> None:
            await lanes.gate.wait(lanes.gate.arrive("a", Enqueue()))

        task = asyncio.create_task(wait())
        await until_blocked()
        behind = await Visitor(lanes).arrived()
        if handed_over:
            lanes.gate.leave(holder, None)
        task.cancel()
        await asyncio.wait((task,))
        lanes.gate.leave(holder, None)
        await behind.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_turn_can_be_expelled_while_it_waits(self) -> None:
        """Its wait ends with the error it is given; a turn that runs or has ended is left alone."""
        lanes = loop_lanes()
        holder = lanes.gate.arrive("a", Enqueue())
        waiting = lanes.gate.arrive("a", Enqueue())
        error = errors.CapacityExceeded("a", resource="body_budget", limit=1)
        assert not lanes.gate.expel(holder, error, "capacity")
        assert lanes.gate.expel(waiting, error, "capacity")
        assert not lanes.gate.expel(waiting, error, "capacity")
        with pytest.raises(errors.CapacityExceeded) as raised:
            await lanes.gate.wait(waiting)
        assert raised.value is error
        lanes.gate.leave(holder, None)
        assert not lanes.gate.expel(holder, error, "capacity")
        assert lanes.statistics().totals == {"completed": 1, "capacity": 1}
        assert leftovers(lanes) == []


class TestWithoutATask:
    """A turn that was begun in a callback, or whose task has ended without letting it go."""

    @on_virtual_time
    async def test_it_can_be_asked_to_stop_and_there_is_nobody_to_cancel(self) -> None:
        """It lets the lane go when whoever has it does so."""
        lanes = loop_lanes(slow_after=10)
        turns: list[Turn] = []

        async def begin() -> None:
            turns.append(lanes.gate.arrive("b", Enqueue()))

        asyncio.get_running_loop().call_soon(lambda: turns.append(lanes.gate.arrive("a", Enqueue())))
        await asyncio.create_task(begin())
        with Gates(lanes.hooks) as gates:
            for key in "ab":
                assert lanes.interrupt(key, grace=1)
            await asyncio.sleep(11)
            assert sorted(event.key for event in gates.at(TurnSlow).seen) == ["a", "b"]
        assert all(turn.running and turn.interrupted for turn in turns)
        for turn in turns:
            assert lanes.gate.leave(turn, None) is None
        assert leftovers(lanes) == []


class TestArrivingForATask:
    """A scope may take its place in line before the task that will enter it has run."""

    @staticmethod
    async def enter(scope: TurnScope, entered: list[Turn]) -> None:
        async with scope as turn:
            entered.append(turn)
            assert current_turn() is turn
            await asyncio.sleep(1)

    @on_virtual_time
    async def test_the_task_runs_in_the_place_that_was_taken(self) -> None:
        """Whoever arrives before the task has its first step stands behind it."""
        lanes, entered = loop_lanes(), list[Turn]()
        holder = await Visitor(lanes).arrived()
        scope = lanes.turn("a")
        task = asyncio.create_task(self.enter(scope, entered), context=contextvars.Context())
        scope.arrive(task)
        other = lanes.gate.arrive("a", Enqueue())
        await holder.leave()
        await task
        assert [turn.position for turn in entered] == [1]
        assert other.running
        lanes.gate.leave(other, None)

    @on_virtual_time
    async def test_that_task_is_the_one_that_is_interrupted(self) -> None:
        """Not the one that called `arrive`."""
        lanes, entered = loop_lanes(), list[Turn]()
        scope = lanes.turn("a")
        task = asyncio.create_task(self.enter(scope, entered), context=contextvars.Context())
        scope.arrive(task)
        lanes.interrupt("a", grace=0)
        await asyncio.wait((task,))
        assert isinstance(task.exception(), errors.TurnInterrupted)

    @pytest.mark.parametrize("ahead", [True, False])
    @on_virtual_time
    async def test_a_place_that_is_not_entered_can_be_given_up(self, ahead: bool) -> None:
        """In line, or with the lane already had: the next one gets it, and giving up again does nothing."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        task = asyncio.create_task(asyncio.sleep(0))
        scope = lanes.turn("a")
        scope.arrive(task)
        behind = await Visitor(lanes).arrived()
        if not ahead:
            await holder.leave()
        for _ in range(2):
            assert scope.abandon() is None
        holder.release()
        await behind.leave()
        assert lanes.statistics().waiting == 0
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_place_that_was_entered_is_not_given_up(self) -> None:
        """It belongs to the block now; and one that was never taken can not be given up."""
        lanes = loop_lanes()
        scope = lanes.turn("a")
        assert scope.abandon() is None
        async with scope as turn:
            assert scope.abandon() is None
            assert turn.running

    @on_virtual_time
    async def test_an_interruption_of_a_place_that_is_given_up_is_told(self) -> None:
        """Its task was cancelled for it: what it ended with is replaced as in a block."""
        lanes = loop_lanes()
        task = asyncio.create_task(asyncio.sleep(100))
        scope = lanes.turn("a")
        scope.arrive(task)
        lanes.interrupt("a", grace=0)
        await asyncio.wait((task,))
        assert isinstance(scope.abandon(asyncio.CancelledError()), errors.TurnInterrupted)
        assert leftovers(lanes) == []


class Unwell(BaseException):
    """What no dispatcher catches."""


@on_virtual_time
async def test_a_listener_that_ends_everything_leaves_nobody_unwoken() -> None:
    """The lane is handed over whatever leaves a listener: the turn that has it must hear of it."""
    lanes = loop_lanes()
    holder = lanes.gate.arrive("a", Reject())
    waiting = lanes.gate.arrive("a", Enqueue())

    def fail(event: TurnStarted) -> None:
        raise Unwell

    lanes.hooks.on(TurnStarted, fail)
    with pytest.raises(Unwell):
        lanes.gate.leave(holder, None)
    await lanes.gate.wait(waiting)
    assert waiting.running
    lanes.gate.leave(waiting, None)
    assert leftovers(lanes) == []
