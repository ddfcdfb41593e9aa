"""What lanes tell of themselves: statistics, snapshot, the expected wait, one line of text."""

import asyncio
import dataclasses
import math
import pickle

import pytest

from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time
from support.seeded_loop import until_blocked
from turnlane import Enqueue, Lanes, errors
from turnlane.hooks import Event, TurnFinished, TurnQueued, TurnStarted
from turnlane.lanes import LaneSnapshot, LanesStatistics, TurnSnapshot
from turnlane.testing import Gates, ManualClock


@on_virtual_time
async def test_statistics_count_lanes_and_turns() -> None:
    """A lane is one that is held, waited for, or paused; the numbers are of this moment."""
    lanes = loop_lanes()
    assert lanes.statistics() == LanesStatistics(lanes=0, running=0, waiting=0, totals={"completed": 0})
    visitors = [await Visitor(lanes, key).arrived() for key in "aaab"]
    lanes.pause("c")
    before = lanes.statistics()
    assert (before.lanes, before.running, before.waiting) == (3, 2, 2)
    for visitor in visitors:
        await visitor.leave()
    assert (before.lanes, before.totals["completed"]) == (3, 0)
    after = lanes.statistics()
    assert (after.lanes, after.running, after.waiting, dict(after.totals)) == (1, 0, 0, {"completed": 4})


@on_virtual_time
async def test_every_turn_is_counted_once_by_what_became_of_it() -> None:
    """Served, refused, cancelled, failed: the sum is the number of turns that arrived."""
    lanes = loop_lanes(max_running=1)

    async def fail(_: Visitor) -> None:
        raise LookupError

    await Visitor(lanes, during=fail).result()
    holder = await Visitor(lanes).arrived()
    visitors = [Visitor(lanes, policy=Enqueue(wait_timeout=1)), Visitor(lanes, policy="reject")]
    visitors += [Visitor(lanes, policy=Enqueue(max_waiting=0)), Visitor(lanes, "b", policy="reject"), Visitor(lanes)]
    await until_blocked()
    visitors[-1].task.cancel()
    await asyncio.wait([visitor.task for visitor in visitors])
    visitors.append(await Visitor(lanes).arrived())
    await lanes.drain(0)
    await holder.leave()
    totals = lanes.statistics().totals
    names = ("completed", "failed", "busy", "full", "capacity", "wait_timeout", "cancelled", "draining")
    assert totals == dict.fromkeys(names, 1)


@on_virtual_time
async def test_listeners_hear_of_each_turn_in_the_order_of_what_happens() -> None:
    """Queued, started, finished; the end of a turn before the start of its successor, when the lane has gone on."""
    lanes = loop_lanes()
    told: list[tuple[str, str, int]] = []

    def note(event: Event) -> None:
        assert isinstance(event, TurnQueued | TurnStarted | TurnFinished)
        told.append((type(event).__name__, event.turn, lanes.statistics().waiting))

    lanes.hooks.on(Event, note)
    first = await Visitor(lanes).arrived()
    second = await Visitor(lanes).arrived()
    await asyncio.sleep(5)
    with Gates(lanes.hooks) as gates:
        await first.leave()
        await second.leave()
        assert [event.waited for event in gates.at(TurnStarted).seen] == pytest.approx([5])
        times = [time for event in gates.at(TurnFinished).seen for time in (event.waited, event.ran)]
        assert times == pytest.approx([0, 5, 5, 0])
    one, other = first.held.id, second.held.id
    assert told == [
        ("TurnStarted", one, 0),
        ("TurnQueued", other, 1),
        ("TurnFinished", one, 0),
        ("TurnStarted", other, 0),
        ("TurnFinished", other, 0),
    ]


async def test_what_is_told_can_not_be_changed() -> None:
    """Frozen, with no way to the counters behind, and plain values that can be written out."""
    lanes = Lanes()
    async with lanes.turn("a"):
        (lane,) = lanes.snapshot()
    statistics = lanes.statistics()
    for told, name in ((statistics, "lanes"), (lane, "key"), (lane.holder, "age")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(told, name, 7)
    dataclasses.asdict(statistics)["totals"]["completed"] = 7
    pickle.loads(pickle.dumps(statistics)).totals["completed"] = 7
    statistics.totals["completed"] = 7  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    assert lanes.statistics().totals == {"completed": 1}


@on_virtual_time
async def test_the_snapshot_tells_who_holds_and_who_waits() -> None:
    """By key; since when by the clock on the wall; ages in seconds; waiting turns in the order of the line."""
    clock = ManualClock(wall=1_700_000_000)
    lanes = Lanes(clock=clock, slow_after=None)
    holder = await Visitor(lanes, "b").arrived()
    clock.advance(5)
    second = await Visitor(lanes, "b").arrived()
    clock.advance(2)
    third = await Visitor(lanes, "b").arrived()
    other = await Visitor(lanes, "a").arrived()
    lanes.pause("c")
    lanes.pause("b")
    clock.advance(1)
    a, b, c = lanes.snapshot()
    assert (a.key, b.key, c.key) == ("a", "b", "c")
    assert a.holder == TurnSnapshot(turn=other.held.id, age=1.0)
    assert b.holder == TurnSnapshot(turn=holder.held.id, age=8.0)
    assert b.since == pytest.approx(1_700_000_000)
    assert (a.waiting, a.paused, b.paused) == ((), False, True)
    assert [turn.age for turn in b.waiting] == pytest.approx([3, 1])
    assert c == LaneSnapshot(key="c", holder=None, since=None, waiting=(), paused=True)
    lanes.resume("b")
    await holder.leave()
    await second.leave()
    await third.entered.wait()
    assert [turn.turn for turn in b.waiting] == [second.held.id, third.held.id]


@on_virtual_time
async def test_the_age_of_a_running_turn_is_counted_from_its_start() -> None:
    """Not from its arrival."""
    lanes = loop_lanes()
    Visitor(lanes, during=lambda _: asyncio.sleep(10))
    second = await Visitor(lanes).arrived()
    await second.entered.wait()
    await asyncio.sleep(3)
    (lane,) = lanes.snapshot()
    assert lane.holder == TurnSnapshot(turn=second.held.id, age=3.0)


@on_virtual_time
async def test_the_expected_wait_follows_how_long_turns_took() -> None:
    """Unknown before the first turn that others waited for; then so many times the mean, the newest counting most."""
    lanes = loop_lanes()
    assert math.isinf(lanes.expected_wait(3))
    Visitor(lanes, during=lambda _: asyncio.sleep(10))
    second = await Visitor(lanes, during=lambda _: asyncio.sleep(20)).arrived()
    third = await Visitor(lanes, during=lambda _: asyncio.sleep(20)).arrived()
    await second.entered.wait()
    assert (lanes.expected_wait(0), lanes.expected_wait(1), lanes.expected_wait(3)) == pytest.approx((10, 10, 30))
    await third.entered.wait()
    assert lanes.expected_wait(1) == pytest.approx(12)


@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("max_running", [None, 1])
@on_virtual_time
async def test_turns_that_nobody_waited_for_say_nothing_of_the_expected_wait(
    heard: bool, max_running: int | None
) -> None:
    """Quick turns of other keys do not make a slow key look quick, whoever listens; with one slot all wait for all."""
    lanes = loop_lanes(max_running=max_running)
    if heard:
        lanes.hooks.on(TurnFinished, lambda _: None)
    await (await Visitor(lanes, "quick").arrived()).leave()
    assert math.isinf(lanes.expected_wait(1))
    slow = Visitor(lanes, during=lambda _: asyncio.sleep(10))
    await slow.arrived()
    other = Visitor(lanes, "other", during=lambda _: asyncio.sleep(1))
    await other.arrived()
    await slow.result()
    await other.result()
    assert lanes.expected_wait(1) == (math.inf if max_running is None else pytest.approx(10))


@on_virtual_time
async def test_lanes_print_what_they_do() -> None:
    """One line: where they live, how many run and wait, and whether they drain."""
    lanes = loop_lanes()
    await Visitor(lanes).arrived()
    waiting = await Visitor(lanes).arrived()
    assert repr(lanes) == "<Lanes memory:// running=1 waiting=1>"
    await lanes.drain(0)
    assert isinstance(await waiting.result(), errors.LanesDraining)
    assert repr(lanes) == "<Lanes memory:// draining running=1 waiting=0>"
