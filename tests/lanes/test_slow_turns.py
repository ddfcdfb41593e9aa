"""A turn that runs very long is reported once, with where it stands."""

import asyncio
import gc
import logging
import weakref

import pytest

from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time, running_loop
from support.seeded_loop import SeededLoop, until_blocked
from turnlane import Lanes
from turnlane.hooks import TurnSlow, key_digest
from turnlane.testing import Gates, ManualClock


async def a_slow_place(seconds: float) -> None:
    await asyncio.sleep(seconds)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "turnlane.lanes"]


@on_virtual_time
async def test_a_slow_turn_is_reported_once_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    """One warning and one event when it passes 600 seconds; the log has the digest of the key, not the key."""
    lanes = loop_lanes(slow_after=600)
    began = running_loop().time()
    with Gates(lanes.hooks) as gates:
        slow = await Visitor(lanes, "agent:alice", during=lambda _: a_slow_place(5000)).arrived()
        event = await gates.at(TurnSlow).reached(timeout=700)
        assert running_loop().time() == began + 600
        assert (event.key, event.turn, event.running) == ("agent:alice", slow.held.id, 600)
        assert "a_slow_place" in event.stack
        await slow.task
        assert len(gates.at(TurnSlow).seen) == 1
    (warning,) = warnings_of(caplog)
    assert warning.startswith(f"turn_slow key={key_digest('agent:alice')} turn={slow.held.id} running_s=600\n")
    assert "a_slow_place" in warning
    assert "agent:alice" not in warning
    assert caplog.records[0].levelno == logging.WARNING


@on_virtual_time
async def test_each_slow_turn_is_reported_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """At its own time, however the turns overlap; the time in line does not count."""
    lanes = loop_lanes(slow_after=100)
    told: list[tuple[str, float]] = []
    lanes.hooks.on(TurnSlow, lambda event: told.append((event.key, running_loop().time() - began)))
    began = running_loop().time()
    visitors = [Visitor(lanes, "a", during=lambda _: asyncio.sleep(90)) for _ in range(3)]
    visitors += [Visitor(lanes, "b", during=lambda _: asyncio.sleep(250))]
    await asyncio.sleep(30)
    visitors += [Visitor(lanes, "c", during=lambda _: asyncio.sleep(150))]
    visitors += [Visitor(lanes, "b", during=lambda _: asyncio.sleep(150))]
    await asyncio.wait([visitor.task for visitor in visitors])
    assert [key for key, _ in told] == ["b", "c", "b"]
    assert [seconds for _, seconds in told] == pytest.approx([100, 130, 350])
    assert len(warnings_of(caplog)) == 3


@on_virtual_time
async def test_nothing_is_reported_without_a_number(caplog: pytest.LogCaptureFixture) -> None:
    """`slow_after=None`: no warning, and no timer either."""
    lanes = loop_lanes(slow_after=None)
    visitor = await Visitor(lanes).arrived()
    assert running_loop().armed() == []
    await asyncio.sleep(10_000)
    await visitor.leave()
    assert warnings_of(caplog) == []


@on_virtual_time
async def test_the_watch_ends_when_the_lanes_are_idle_and_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    """One timer while lanes live, at most one look after they ended; the next slow turn is seen as well."""
    lanes = loop_lanes(slow_after=60)
    for expected in (1, 2):
        visitor = await Visitor(lanes, during=lambda _: asyncio.sleep(100)).arrived()
        assert len(running_loop().armed()) == 2
        await visitor.task
        assert len(warnings_of(caplog)) == expected
        await asyncio.sleep(100)
        assert running_loop().armed() == []


@on_virtual_time
async def test_a_slow_turn_is_let_go_when_it_has_ended() -> None:
    """With its task and all that hangs on it."""
    lanes = loop_lanes(slow_after=10)
    visitor = await Visitor(lanes, during=lambda _: asyncio.sleep(15)).arrived()
    kept = weakref.ref(visitor.task)
    await visitor.task
    await asyncio.sleep(100)
    del visitor
    await until_blocked()
    gc.collect()
    assert kept() is None


def test_a_turn_of_a_loop_that_is_gone_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Each loop has a watch of its own, which ends with it; what was cut off in it is not found by the next one."""
    clock = ManualClock()
    lanes = Lanes(slow_after=10, clock=clock)

    async def never_left() -> None:
        await lanes.turn("a").__aenter__()

    async def two_looks() -> None:
        async with lanes.turn("b"):
            await asyncio.sleep(25)

    with SeededLoop() as loop:
        loop.run(never_left())
    clock.advance(1000)
    with SeededLoop() as loop:
        loop.run(two_looks())
    assert warnings_of(caplog) == []
