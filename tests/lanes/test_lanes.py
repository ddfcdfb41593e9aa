"""The lanes of one process: one turn of a key at a time, in the order of arrival, whatever becomes of the callers."""

import asyncio
import random
from collections.abc import AsyncGenerator
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time
from support.seeded_loop import SeededLoop, until_blocked
from turnlane import Lanes, Turn, current_turn, errors


async def test_an_idle_lane_is_had_at_once() -> None:
    """Nobody is ahead, nothing is waited for, and afterwards nothing is left."""
    lanes = Lanes()
    async with lanes.turn("a") as turn:
        assert (turn.key, turn.running, turn.waited, turn.position, turn.hinted) == ("a", True, 0.0, 0, False)
        assert turn.token > 0
        assert current_turn() is turn
        assert lanes.statistics().running == 1
    assert not turn.running
    assert current_turn() is None
    assert leftovers(lanes) == []


async def test_turns_of_one_key_run_one_at_a_time_in_arrival_order() -> None:
    """Ten turns arrive at once: none overlaps, none overtakes. On the loop that servers use."""
    lanes = Lanes()
    seen: list[int] = []
    inside = 0

    async def run(number: int) -> None:
        nonlocal inside
        async with lanes.turn("a"):
            inside += 1
            assert inside == 1
            await anyio.lowlevel.checkpoint()
            inside -= 1
            seen.append(number)

    await asyncio.gather(*(run(number) for number in range(10)))
    assert seen == list(range(10))
    assert leftovers(lanes) == []


def test_the_order_is_that_of_arrival_whatever_order_tasks_wake_in(seed: int) -> None:
    """Arrival is when the block is entered; on a loop that shuffles, twenty tasks run in the order of doing that."""

    async def main() -> tuple[list[int], list[int]]:
        lanes = loop_lanes()
        arrived: list[int] = []
        ran: list[int] = []

        async def run(number: int) -> None:
            arrived.append(number)
            async with lanes.turn("a"):
                ran.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(run(number) for number in range(20)))
        return arrived, ran

    with SeededLoop(random.Random(seed)) as loop:
        arrived, ran = loop.run(main())
    assert ran == arrived, f"seed {seed}"


@on_virtual_time
async def test_keys_do_not_wait_for_each_other() -> None:
    """Two keys run side by side."""
    lanes = loop_lanes()
    one, other = Visitor(lanes, "a"), Visitor(lanes, "b")
    await until_blocked()
    assert one.held.running
    assert other.held.running


@on_virtual_time
async def test_a_turn_that_waited_knows_how_long_and_behind_how_many() -> None:
    """`waited` is in seconds from arrival to start, `position` counts the running one too."""
    lanes = loop_lanes()
    holder = await Visitor(lanes).arrived()
    second = await Visitor(lanes).arrived()
    await asyncio.sleep(2)
    third = await Visitor(lanes).arrived()
    await asyncio.sleep(3)
    holder.release()
    await second.leave()
    await third.leave()
    assert (second.held.position, third.held.position) == (1, 2)
    assert (second.held.waited, third.held.waited) == pytest.approx((5, 3))


@pytest.mark.parametrize(("one", "other"), [("a", " a "), ("\u00e9", "e\u0301"), ("a\u00e9", "ae\u0301\n")])
@on_virtual_time
async def test_keys_that_look_equal_are_one_lane(one: str, other: str) -> None:
    """A key is brought into canonical form before its lane is looked up."""
    lanes = loop_lanes()
    holder = await Visitor(lanes, one).arrived()
    second = await Visitor(lanes, other).arrived()
    assert second.waiting
    await holder.leave()
    await second.leave()
    assert second.held.key == holder.held.key == one


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("", errors.SessionKeyRequired),
        (" \t", errors.SessionKeyRequired),
        ("a\nb", errors.SessionKeyInvalid),
        ("a" * 513, errors.SessionKeyInvalid),
        (None, errors.SessionKeyInvalid),
        (b"a", errors.SessionKeyInvalid),
    ],
)
@pytest.mark.parametrize("operation", ["turn", "pause", "resume", "interrupt"])
def test_a_key_that_names_no_session_is_refused(key: object, error: type[Exception], operation: str) -> None:
    """Blank, with a control character, too long, no text: before anything is waited for."""
    with pytest.raises(error):
        getattr(Lanes(), operation)(key)


class TestCancellation:
    """A caller that goes away leaves the line, or passes on the lane it was handed."""

    @pytest.mark.parametrize("who", [0, 1, 2])
    @on_virtual_time
    async def test_a_cancelled_waiter_leaves_the_line_wherever_it_stands(self, who: int) -> None:
        """First, middle or last: it never runs, the others keep their order."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        seen: list[int] = []

        async def note(number: int, _: Visitor) -> None:
            seen.append(number)

        waiting = [Visitor(lanes, during=partial(note, number)) for number in range(3)]
        await until_blocked()
        waiting[who].task.cancel()
        assert isinstance(await waiting[who].result(), asyncio.CancelledError)
        assert lanes.statistics().waiting == 2
        await holder.leave()
        await until_blocked()
        assert seen == [number for number in range(3) if number != who]
        assert lanes.statistics().totals["cancelled"] == 1
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_waiter_cancelled_after_the_hand_over_passes_the_lane_on(self) -> None:
        """It holds the lane from the hand-over on; cancelled before it woke up, it lets the next one have it."""
        lanes = loop_lanes()
        async with lanes.turn("a"):
            second, third = Visitor(lanes), Visitor(lanes)
            await until_blocked()
        second.task.cancel()
        assert lanes.statistics().running == 1
        await third.entered.wait()
        assert second.turn is None
        assert second.task.cancelled()
        await third.leave()
        assert lanes.statistics().totals == {"completed": 2, "cancelled": 1}
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_a_waiter_cancelled_in_the_step_of_the_hand_over_passes_the_lane_on(self) -> None:
        """Cancelled first, handed the lane before it could leave the line: the lane goes on to the next."""
        lanes = loop_lanes()
        async with lanes.turn("a"):
            second, third = Visitor(lanes), Visitor(lanes)
            await until_blocked()
            second.task.cancel()
        await third.entered.wait()
        assert second.turn is None
        assert second.task.cancelled()
        await third.leave()
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_the_last_one_cancelled_after_the_hand_over_leaves_an_idle_lane(self) -> None:
        """Nobody is there to pass the lane on to: the next to come has it at once."""
        lanes = loop_lanes()
        async with lanes.turn("a"):
            second = await Visitor(lanes).arrived()
        second.task.cancel()
        await second.result()
        assert leftovers(lanes) == []
        async with lanes.turn("a"):
            pass

    @on_virtual_time
    async def test_a_cancelled_wait_raises_the_cancellation_as_it_is(self) -> None:
        """Without a cause and without a context of its own making: walks of the chain come to an end."""
        lanes = loop_lanes()
        await Visitor(lanes).arrived()
        caught: list[BaseException] = []

        async def wait() -> None:
            try:
                async with lanes.turn("a"):
                    pass
            except asyncio.CancelledError as error:
                caught.append(error)
                raise

        task = asyncio.create_task(wait())
        await until_blocked()
        task.cancel("gone")
        await asyncio.wait((task,))
        assert [(error.args, error.__cause__) for error in caught] == [(("gone",), None)]

    @on_virtual_time
    async def test_a_running_turn_that_is_cancelled_cleans_up_before_the_next_starts(self) -> None:
        """What its code awaits on the way out is over when the lane goes."""
        lanes = loop_lanes()

        async def clean_up_slowly(visitor: Visitor) -> None:
            try:
                await visitor.released.wait()
            finally:
                await asyncio.sleep(7)

        first = await Visitor(lanes, during=clean_up_slowly).arrived()
        second = await Visitor(lanes).arrived()
        first.task.cancel()
        await second.entered.wait()
        assert second.began == first.ended
        assert second.held.waited == pytest.approx(7)


class TestLeaving:
    """The lane is let go once, by whom it belongs to, however its turn ends."""

    @on_virtual_time
    async def test_leaving_again_takes_nothing_from_the_successor(self) -> None:
        """A turn that has been left can be left again, now and after the next one has the lane."""
        lanes = loop_lanes()
        first = await Visitor(lanes).arrived()
        second, third = Visitor(lanes), Visitor(lanes)
        await until_blocked()
        await first.leave()
        await second.entered.wait()
        assert lanes.gate.leave(first.held, None) is None
        assert lanes.gate.leave(first.held, ValueError()) is None
        await until_blocked()
        assert second.held.running
        assert third.waiting
        assert lanes.statistics().totals == {"completed": 1}

    async def test_a_block_can_be_entered_once(self) -> None:
        """A second turn needs another call of `turn`."""
        lanes = Lanes()
        scope = lanes.turn("a")
        async with scope:
            pass
        with pytest.raises(RuntimeError, match="once"):
            await scope.__aenter__()
        assert leftovers(lanes) == []

    async def test_a_block_that_was_never_entered_takes_no_place(self) -> None:
        """`turn` alone does nothing, and leaving what was not entered does nothing."""
        lanes = Lanes()
        scope = lanes.turn("a")
        assert lanes.statistics().lanes == 0
        await scope.__aexit__(None, None, None)
        assert lanes.statistics().totals == {"completed": 0}

    @pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), asyncio.CancelledError()])
    @on_virtual_time
    async def test_what_a_turn_raises_goes_through_as_it_is(self, error: BaseException) -> None:
        """The lane is let go, and the error is the same object."""
        lanes = loop_lanes()
        scope = lanes.turn("a")
        await scope.__aenter__()
        second = await Visitor(lanes).arrived()
        await scope.__aexit__(type(error), error, None)
        await second.entered.wait()
        outcome = "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
        assert lanes.statistics().totals == {"completed": 0, outcome: 1}

    @on_virtual_time
    async def test_an_owner_that_fails_lets_the_next_one_run(self) -> None:
        """Its error reaches its own caller only."""
        lanes = loop_lanes()

        async def fail(_: Visitor) -> None:
            await asyncio.sleep(1)
            raise LookupError("mine")

        first = await Visitor(lanes, during=fail).arrived()
        second = await Visitor(lanes).arrived()
        with pytest.raises(LookupError, match="mine"):
            await first.task
        await second.leave()
        assert lanes.statistics().totals == {"completed": 1, "failed": 1}

    @on_virtual_time
    async def test_a_generator_that_is_closed_elsewhere_lets_its_lane_go(self) -> None:
        """Entered in one task and closed in another, whose own turn stays what it was."""
        lanes = loop_lanes()

        async def tokens() -> AsyncGenerator[Turn, None]:
            async with lanes.turn("a") as turn:
                yield turn

        stream = tokens()
        turn = await asyncio.create_task(anext(stream))
        async with lanes.turn("b") as mine:
            await stream.aclose()
            assert current_turn() is mine
        assert not turn.running
        assert leftovers(lanes) == []
