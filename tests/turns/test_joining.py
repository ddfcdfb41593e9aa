"""Calls from inside a turn: which join it, and which are turns of their own."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from support.turns_answer import Answer
from support.turns_steps import apart, held, until_idle
from turnlane import Lanes, Runtime, Turn, current_turn
from turnlane.errors import LaneReentry
from turnlane.testing import assert_no_leaks


class TestJoins:
    """A live turn of the same key and lanes."""

    async def test_a_call_inside_a_turn_runs_in_it(self) -> None:
        """At once, although others wait; and its end is not the end of the turn."""
        runtime = Runtime()
        answer = Answer(runtime)
        async with runtime.turn("a") as turn:
            waiting = apart(answer.call("a"))
            await until_idle()
            assert await answer.call("a") is turn
            assert await answer.call(" a ") is turn
            assert [each async for each in answer.stream("a")] == [turn, turn]
            assert turn.running
            assert not waiting.done()
        assert await waiting is not turn
        assert runtime.lanes.statistics().totals == {"completed": 2}

    async def test_every_kind_of_outer_turn_is_joined(self) -> None:
        """`runtime.turn`, `lanes.turn`, a turn function, a generator turn."""
        runtime = Runtime()
        answer = Answer(runtime)

        @runtime.agent_turn(key="key")
        async def outer(key: str, *, turn: Turn) -> bool:
            return await answer.call(key) is turn

        @runtime.agent_turn(key="key")
        async def outer_stream(key: str, *, turn: Turn) -> AsyncIterator[bool]:
            yield await answer.call(key) is turn

        async with runtime.lanes.turn("a") as turn:
            assert await answer.call("a") is turn
        assert await outer("a")
        assert [each async for each in outer_stream("a")] == [True]

    async def test_a_turn_may_be_joined_without_a_function(self) -> None:
        """`runtime.turn(key, join=True)`: in a turn of its key, however that is written, it is that one."""
        runtime = Runtime(sessions="memory://")
        async with runtime.turn("a", join=True) as turn:
            waiting = apart(runtime.turn("a", join=True).__aenter__())
            await until_idle()
            async with runtime.turn(" a ", join=True) as same, runtime.turn("b", join=True) as other:
                assert same is turn
                assert other is not turn
                assert other.key == "b"
            assert turn.running
            with pytest.raises(LaneReentry):
                async with runtime.turn("a"):
                    pass
            assert not waiting.done()
            waiting.cancel()
        async with runtime.lanes.turn("a") as bare, runtime.turn("a", join=True) as same:
            assert same is bare
            assert same.session is not None, "it has sessions now"
        assert runtime.lanes.statistics().lanes == 0

    async def test_calls_nested_deep_and_through_other_keys_find_their_turn(self) -> None:
        """a, in it b, in it c, in it a and b again."""
        runtime = Runtime()
        answer = Answer(runtime)

        @runtime.agent_turn(key="key")
        async def dive(key: str, path: list[str], *, turn: Turn) -> list[Turn]:
            return [turn, *(await dive(path[0], path[1:]) if path else [])]

        first, again, other, third, back, deep = await dive("a", ["a", "b", "c", "a", "b"])
        assert first is again is back
        assert other is deep
        assert len({first.id, other.id, third.id}) == 3
        assert runtime.lanes.statistics().totals == {"completed": 3}
        assert (await answer.call("a")) is not first

    async def test_child_tasks_of_the_turn_join_it(self) -> None:
        """Several at once, too."""
        runtime = Runtime()
        answer = Answer(runtime)
        async with runtime.turn("a") as turn, asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer.call("a")) for _ in range(3)]
        assert [task.result() for task in tasks] == [turn] * 3

    async def test_a_joined_call_that_fails_does_not_end_the_turn(self) -> None:
        """The error is the caller's to handle."""
        runtime = Runtime()

        @runtime.agent_turn(key="key")
        async def fail(key: str) -> None:
            raise KeyError(key)

        async with runtime.turn("a") as turn:
            with pytest.raises(KeyError):
                await fail("a")
            assert turn.running
        assert runtime.lanes.statistics().totals == {"completed": 1}

    async def test_a_joined_generator_runs_in_its_consumers_task(self) -> None:
        """Closing it runs its cleanup there and leaves the turn alone."""
        runtime = Runtime()
        tasks: list[asyncio.Task[object] | None] = []

        @runtime.agent_turn(key="key", idle_consumer_timeout=0.001)
        async def stream(key: str) -> AsyncIterator[int]:
            try:
                tasks.append(asyncio.current_task())
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                tasks.append(asyncio.current_task())

        async with runtime.turn("a") as turn:
            items = stream("a")
            assert await anext(items) == 1
            await asyncio.sleep(0.005)  # longer than a consumer of a turn of its own may take
            assert await anext(items) == 2
            await items.aclose()
            assert turn.running
        assert tasks == [asyncio.current_task()] * 2

    async def test_two_runtimes_over_the_same_lanes_are_one(self) -> None:
        """What counts is who holds the lane."""
        lanes = Lanes()
        one, other = Runtime(lanes=lanes), Answer(Runtime(lanes=lanes))
        async with one.turn("a") as turn:
            assert await other.call("a") is turn


class TestDoesNotJoin:
    """What is a turn of its own."""

    async def test_another_key_is_a_nested_turn(self) -> None:
        """It has its own lane, and the outer turn goes on after it."""
        runtime = Runtime()
        answer = Answer(runtime)
        async with runtime.turn("a") as turn:
            nested = await answer.call("b")
            assert (nested.key, nested.running, turn.running) == ("b", False, True)
            assert current_turn() is turn
        assert runtime.lanes.statistics().totals == {"completed": 2}

    async def test_another_key_that_is_busy_is_waited_for(self) -> None:
        """Joining is for the caller's own turns only."""
        runtime = Runtime()
        answer = Answer(runtime)
        async with held(runtime.lanes, "b") as release, runtime.turn("a"):
            task = asyncio.create_task(answer.call("b"))
            await until_idle()
            assert not task.done()
            release.set()
            assert (await task).waited > 0

    async def test_other_lanes_know_nothing_of_this_turn(self) -> None:
        """The same key in another runtime is another lane."""
        runtime, other = Runtime(), Answer(Runtime())
        async with runtime.turn("a") as turn:
            assert await other.call("a") is not turn
        assert other.runtime.lanes.statistics().totals == {"completed": 1}

    async def test_a_detached_task_waits_like_a_stranger(self) -> None:
        """`turn.detached()` leaves the chain."""
        runtime = Runtime()
        answer = Answer(runtime)
        async with runtime.turn("a") as turn:
            with turn.detached():
                task = asyncio.create_task(answer.call("a"))
            await until_idle()
            assert not task.done()
        assert await task is not turn

    async def test_a_background_task_outlives_its_turn_and_then_takes_a_turn(self) -> None:
        """The turn it was started in has ended: it stands in line again, behind whoever is there."""
        runtime = Runtime()
        answer = Answer(runtime)
        go = asyncio.Event()

        async def later() -> Turn:
            await go.wait()
            return await answer.call("a")

        async with runtime.turn("a") as turn:
            task = asyncio.create_task(later())
        async with held(runtime.lanes, "a"):
            go.set()
            await until_idle()
            assert not task.done()
        mine = await task
        assert mine is not turn
        assert mine.waited > 0
        assert runtime.lanes.statistics().totals == {"completed": 3}

    async def test_a_joined_generator_that_outlives_the_turn_is_not_in_a_lane(self) -> None:
        """What it does after the end of the turn is nobody's turn; a new call takes its own."""
        runtime = Runtime()

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[Turn | None]:
            while True:
                yield current_turn()

        async with runtime.turn("a") as turn:
            items = stream("a")
            assert await anext(items) is turn
        assert await anext(items) is None
        await items.aclose()
        assert_no_leaks(runtime.lanes)

    async def test_the_open_calls_raise_reentry_instead_of_waiting_for_ever(self) -> None:
        """`runtime.turn` and `lanes.turn` never join: they name the cycle."""
        runtime = Runtime(sessions="memory://")
        assert runtime.sessions is not None
        session = await runtime.sessions.resolve("a")
        async with runtime.turn("a"):
            for scope in (
                runtime.turn("a"),
                runtime.lanes.turn("a"),
                runtime.turn(session_id=session.id),
            ):
                with pytest.raises(LaneReentry) as caught:
                    async with scope:
                        pass
                assert caught.value.cycle == ("a",)
            async with runtime.turn("b"):
                with pytest.raises(LaneReentry):
                    async with runtime.turn("a"):
                        pass
        assert_no_leaks(runtime.lanes)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_forked_inside_a_turn_does_not_join_it() -> None:
    """The copy of the turn in the child never ends; the call there is told that the lanes are in use elsewhere."""
    programme = """
import asyncio, os, warnings
from turnlane import Runtime, errors

warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads
runtime = Runtime()

@runtime.agent_turn(key="key")
async def answer(key):
    return "joined"

def child():
    asyncio.set_event_loop(None)
    asyncio._set_running_loop(None)
    try:
        asyncio.run(answer("a"))
    except errors.NotConfigured as error:
        return 0 if "forked" in str(error) else 2
    return 1

async def main():
    async with runtime.turn("a"):
        pid = os.fork()
        if pid == 0:
            os._exit(child())
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

raise SystemExit(asyncio.run(main()))
"""
    done = subprocess.run([sys.executable, "-c", programme], capture_output=True, text=True, timeout=15, check=False)
    assert (done.returncode, done.stderr) == (0, "")
