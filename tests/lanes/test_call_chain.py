"""What counts as inside a turn: `current_turn`, tasks that outlive their turn, and leaving the chain on purpose."""

import asyncio
import contextvars

import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time
from support.seeded_loop import until_blocked
from turnlane import Lanes, Turn, current_turn, errors


async def the_turn() -> Turn | None:
    return current_turn()


class TestCurrentTurn:
    """The innermost turn of the call chain that still runs."""

    async def test_there_is_none_outside(self) -> None:
        """Before, after, and in code that has nothing to do with lanes."""
        assert current_turn() is None
        async with Lanes().turn("a"):
            pass
        assert current_turn() is None

    async def test_child_tasks_threads_and_callbacks_are_inside(self) -> None:
        """Whatever inherits the context: a task, a group, a thread, a callback."""
        heard: list[Turn | None] = []
        async with Lanes().turn("a") as turn:
            heard += await asyncio.gather(the_turn(), asyncio.create_task(the_turn()))
            async with asyncio.TaskGroup() as group:
                task = group.create_task(the_turn())
            heard += [task.result(), await asyncio.to_thread(current_turn)]
            asyncio.get_running_loop().call_soon(lambda: heard.append(current_turn()))
            await asyncio.sleep(0)
        assert heard == [turn] * 5

    async def test_a_nested_turn_is_the_current_one_until_it_ends(self) -> None:
        """Then the one around it is again, also for a task that was started inside the nested one."""
        lanes = Lanes()
        ask = asyncio.Event()

        async def ask_later() -> Turn | None:
            await ask.wait()
            return current_turn()

        async with lanes.turn("a") as outer:
            async with lanes.turn("b") as inner:
                assert current_turn() is inner
                later = asyncio.create_task(ask_later())
                await asyncio.sleep(0)
            assert current_turn() is outer
            ask.set()
            assert await later is outer

    async def test_a_turn_that_fails_is_not_the_current_one_any_more(self) -> None:
        """However it ended."""
        with pytest.raises(LookupError):
            async with Lanes().turn("a"):
                raise LookupError
        assert current_turn() is None

    @on_virtual_time
    async def test_who_waits_is_not_inside_yet(self) -> None:
        """While it stands in line, its task has no turn of its own, nor that of whoever runs."""
        lanes = loop_lanes()
        context = contextvars.Context()
        await Visitor(lanes).arrived()
        waiting = asyncio.create_task(lanes.turn("a").__aenter__(), context=context)
        await until_blocked()
        assert context.run(current_turn) is None
        waiting.cancel()


class TestOutliving:
    """A task that a turn started and did not wait for."""

    @on_virtual_time
    async def test_it_is_not_inside_a_turn_that_has_ended(self) -> None:
        """It has no current turn, and may ask for the very lane like a stranger."""
        lanes = loop_lanes()
        go = asyncio.Event()

        async def outlive() -> list[object]:
            inside = current_turn()
            await go.wait()
            heard = [inside, current_turn()]
            async with lanes.turn("a") as mine:
                return [*heard, mine._parent]  # pyright: ignore[reportPrivateUsage]

        async with lanes.turn("a") as turn:
            task = asyncio.create_task(outlive())
            await until_blocked()
        holder = await Visitor(lanes).arrived()
        go.set()
        await until_blocked()
        assert lanes.statistics().waiting == 1
        await holder.leave()
        assert await task == [turn, None, None]

    @on_virtual_time
    async def test_its_wait_begun_inside_goes_on_outside(self) -> None:
        """It waited in the turn for another lane; the turn ends, and it still gets that lane."""
        lanes = loop_lanes()
        other = await Visitor(lanes, "b").arrived()
        async with lanes.turn("a"):
            child = await Visitor(lanes, "b", inside=True).arrived()
        await other.leave()
        await child.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_wait_of_an_ended_turn_closes_no_cycle(self) -> None:
        """The child of a's former turn waits for b; b may ask for a, whose next turn has nothing to do with it."""
        lanes = loop_lanes()

        async def ask_for_a(visitor: Visitor) -> None:
            await visitor.released.wait()
            async with lanes.turn("a"):
                pass

        b = await Visitor(lanes, "b", during=ask_for_a).arrived()
        async with lanes.turn("a"):
            child = await Visitor(lanes, "b", inside=True).arrived()
        second = await Visitor(lanes, "a").arrived()
        b.release()
        await until_blocked()
        assert lanes.statistics().waiting == 2
        await second.leave()
        await b.task
        await child.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_chain_with_an_ended_turn_in_it_is_followed_past_that(self) -> None:
        """The turn in the middle has ended: what was started in it still belongs to the one around."""
        lanes = loop_lanes()
        other = await Visitor(lanes, "b").arrived()
        inner: list[Visitor] = []

        async def start_an_inner_one(_: Visitor) -> None:
            inner.append(await Visitor(lanes, "i", during=ask, inside=True).arrived())

        async def ask(visitor: Visitor) -> None:
            await visitor.released.wait()
            with pytest.raises(errors.LaneReentry):
                await lanes.turn("a").__aenter__()
            async with lanes.turn("b"):
                pass

        async with lanes.turn("a"):
            await Visitor(lanes, "m", during=start_an_inner_one, inside=True).task
            inner[0].release()
            await until_blocked()
            assert lanes.statistics().waiting == 1
            await other.leave()
            await inner[0].task
        assert leftovers(lanes) == []


class TestDetached:
    """`with turn.detached():` leaves the chain inside the block."""

    async def test_the_block_has_no_current_turn(self) -> None:
        """Before and after it the turn is what it was, also when the block fails."""
        async with Lanes().turn("a") as turn:
            with turn.detached():
                assert current_turn() is None
                assert await asyncio.create_task(the_turn()) is None
            assert current_turn() is turn
            with pytest.raises(LookupError), turn.detached():
                raise LookupError
            assert current_turn() is turn

    async def test_nested_turns_are_left_all_at_once(self) -> None:
        """No turn of the chain is the current one."""
        lanes = Lanes()
        async with lanes.turn("a"), lanes.turn("b") as inner:
            with inner.detached():
                assert current_turn() is None
            assert current_turn() is inner

    @on_virtual_time
    async def test_a_task_started_there_waits_for_the_turns_own_lane(self) -> None:
        """Like a stranger: it runs when the turn has ended."""
        lanes = loop_lanes()
        async with lanes.turn("a") as turn:
            with turn.detached():
                follow_up = Visitor(lanes, "a", inside=True)
            await until_blocked()
            assert follow_up.waiting
        await follow_up.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_task_started_there_uses_no_slot_of_the_turn(self) -> None:
        """It needs one of its own, and is refused by a drain."""
        lanes = loop_lanes(max_running=1)
        async with lanes.turn("a") as turn:
            with turn.detached():
                other = Visitor(lanes, "b", inside=True)
            await until_blocked()
            assert other.waiting
            assert await lanes.drain(0) == 1
        assert isinstance(await other.result(), errors.LanesDraining)
