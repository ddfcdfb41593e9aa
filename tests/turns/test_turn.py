"""The turn itself: what it tells, and where it is found."""

import asyncio

import pytest

from support.turns_steps import apart, held, until_idle
from turnlane import Enqueue, Lanes, Runtime, Turn, current_turn
from turnlane.testing import assert_no_leaks
from turnlane.turns import TurnState


async def test_it_tells_its_key_its_token_and_its_wait() -> None:
    """One that found its lane idle, and one that stood behind two."""
    runtime = Runtime()
    async with runtime.turn("a") as turn:
        assert (turn.key, turn.position, turn.waited, turn.hinted) == ("a", 0, 0.0, False)
        assert (turn.running, turn.interrupted, turn.session) == (True, False, None)
        assert turn.token > 0
    assert not turn.running

    async def second() -> None:
        async with runtime.turn("a"):
            pass

    async def third() -> Turn:
        async with runtime.turn("a", policy=Enqueue(hint_after=2)) as mine:
            return mine

    async with held(runtime.lanes, "a"):
        tasks = apart(second()), apart(third())
        await until_idle()
    await tasks[0]
    last = await tasks[1]
    assert (last.position, last.hinted) == (2, True)
    assert last.waited > 0
    assert last.token > turn.token


async def test_ids_are_not_repeated_by_other_turns_or_lanes() -> None:
    """Of any key, of any runtime."""
    ids: set[str] = set()
    runtimes = [Runtime() for _ in range(3)]
    for key in "abab":
        for runtime in runtimes:
            async with runtime.turn(key) as turn:
                ids.add(turn.id)
    assert len(ids) == 12


async def test_its_repr_is_one_line_that_tells_the_state() -> None:
    """Running, ended."""
    async with Runtime().turn("a b") as turn:
        assert repr(turn) == f"<Turn {turn.id} key='a b' running token={turn.token}>"
    assert repr(turn) == f"<Turn {turn.id} key='a b' ended token={turn.token}>"
    assert list(TurnState) == [TurnState.WAITING, TurnState.RUNNING, TurnState.ENDED]


async def test_current_turn_is_the_innermost_that_has_not_ended() -> None:
    """In the turn's task, its child tasks, nested turns; nowhere after the end."""
    runtime = Runtime()
    seen: list[Turn | None] = []
    go = asyncio.Event()

    async def child() -> None:
        seen.append(current_turn())
        await go.wait()
        seen.append(current_turn())

    assert current_turn() is None
    async with runtime.turn("a") as outer:
        async with runtime.turn("b") as inner:
            assert current_turn() is inner
            task = asyncio.create_task(child())
            await until_idle()
        assert current_turn() is outer
        go.set()
        await task
        assert seen == [inner, outer]
        with outer.detached():
            assert current_turn() is None
            assert await asyncio.create_task(nobody()) is None
        assert current_turn() is outer
    assert current_turn() is None


async def nobody() -> Turn | None:
    return current_turn()


async def test_a_turn_can_wait_to_be_interrupted() -> None:
    """Every task that waits is told, and one that asks later too; the turn then has its grace."""
    runtime = Runtime()
    async with runtime.turn("a") as turn:
        waiting = [asyncio.create_task(turn.wait_interrupted()) for _ in range(2)]
        await until_idle()
        assert not turn.interrupted
        assert runtime.lanes.interrupt("a", grace=60)
        await asyncio.gather(*waiting)
        await turn.wait_interrupted()
        assert turn.interrupted
        assert not runtime.lanes.interrupt("a", grace=60)
    assert runtime.lanes.statistics().totals == {"completed": 1}


@pytest.mark.parametrize("waits", [False, True])
async def test_a_place_that_its_task_never_came_to_take_is_given_up(waits: bool) -> None:
    """Running or in line: the lane goes to the next, and the turn does not count as completed. Again: nothing."""
    lanes = Lanes()

    async def come() -> None:
        async with scope:
            raise AssertionError("it came")

    async def next_one() -> None:
        async with lanes.turn("a"):
            pass

    async with held(lanes, "a") as release:
        if not waits:
            release.set()
            await until_idle()
        before = dict(lanes.statistics().totals)
        scope = lanes.turn("a")
        task = apart(come())
        scope.arrive(task)
        task.cancel()
        following = apart(next_one())
        await asyncio.wait({task})
        assert lanes.statistics().lanes == 1
        for _ in range(2):
            scope.abandon()
        assert lanes.statistics().totals == {**before, "cancelled": 1}
        release.set()
        await following
    assert_no_leaks(lanes)
