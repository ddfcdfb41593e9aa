"""The table's transitions one by one, where a caller may be late, a stranger, or ask again."""

import asyncio

import pytest

from support.lanes_invariants import broken_promises, turns_in_line
from turnlane import Enqueue, Interrupt, Lanes, Turn
from turnlane.lanes.deadlines import Deadlines
from turnlane.lanes.limits import Limits
from turnlane.lanes.line import Waiter
from turnlane.lanes.table import Table


async def some_turns(*keys: str) -> list[Turn]:
    """Return turns that have ended, for a table to know nothing of."""
    lanes = Lanes()
    turns: list[Turn] = []
    for key in keys:
        async with lanes.turn(key) as turn:
            turns.append(turn)
    return turns


def stand(table: Table, *turns: Turn) -> list[Waiter]:
    waiters = [Waiter(turn, None) for turn in turns]
    for waiter in waiters:
        assert table.queue(waiter) == []
    return waiters


@pytest.mark.parametrize("max_running", [None, 1])
async def test_leaving_a_line_twice_is_leaving_it_once(max_running: int | None) -> None:
    """The second time it says that nobody stood there."""
    table, (holder, *others) = Table(Limits(max_running=max_running)), await some_turns("a", "a", "a", "a")
    assert table.enter(holder, None)
    first, middle, last = stand(table, *others)
    for waiter in (middle, first, last):
        assert table.withdraw(waiter)
        assert not table.withdraw(waiter)
        assert broken_promises(table) == []
    assert (table.waiting, table.lines) == (0, {})


@pytest.mark.parametrize("max_running", [None, 1])
async def test_ending_twice_or_by_a_stranger_changes_nothing(max_running: int | None) -> None:
    """Only the holder ends its turn, and once: a late caller takes nothing from the successor."""
    table, (holder, second, stranger) = Table(Limits(max_running=max_running)), await some_turns("a", "a", "a")
    assert table.enter(holder, None)
    (waiter,) = stand(table, second)
    assert table.finish(stranger) == []
    assert table.finish(second) == []
    assert table.finish(holder) == [waiter]
    assert table.finish(holder) == []
    assert table.holders == {"a": second}
    assert table.finish(second) == []
    assert table.holders == {}
    assert broken_promises(table) == []


async def test_nobody_can_leave_a_line_in_which_nobody_stands() -> None:
    """Superseding and resuming a key without a line do nothing."""
    table = Table(Limits(max_running=1))
    assert table.supersede("a") == []
    assert table.resume("a") == []
    assert (table.lines, table.line_length("a")) == ({}, 0)


async def test_superseding_empties_a_paused_line_and_keeps_the_pause() -> None:
    """Those who stood there are returned first come first."""
    table, turns = Table(), await some_turns("a", "a", "a")
    table.pause("a")
    waiters = stand(table, *turns)
    assert turns_in_line(table.lines["a"]) == turns
    assert table.line_length("a") == 3
    assert table.supersede("a") == waiters
    assert (table.waiting, table.lines["a"].paused) == (0, True)
    assert table.resume("a") == []
    assert table.lines == {}


async def test_a_deadline_is_discarded_once() -> None:
    """A waiter without one, or whose deadline was discarded before, changes nothing for the others."""
    (one, other) = (Waiter(turn, None) for turn in await some_turns("a", "a"))
    rang: list[Waiter] = []
    due = asyncio.Event()

    def ring(waiter: Waiter) -> None:
        rang.append(waiter)
        due.set()

    deadlines = Deadlines(asyncio.get_running_loop(), ring)
    deadlines.add(one, 0.0)
    deadlines.discard(other)
    deadlines.add(other, 60.0)
    deadlines.discard(other)
    deadlines.discard(other)
    async with asyncio.timeout(5):
        await due.wait()
    assert rang == [one]
    deadlines.discard(one)
    deadlines.stop()


def test_policies_are_values() -> None:
    """Equal when they say the same, usable as keys, and not to be changed."""
    assert {Enqueue(): 1, Interrupt(grace=1.0): 2}[Enqueue()] == 1
    with pytest.raises(AttributeError):
        Enqueue().max_waiting = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
