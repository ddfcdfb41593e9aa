"""What operators ask of all workers: pausing, draining, and looking."""

import asyncio
import time
from pathlib import Path

import pytest

from engines.places import PLACES, Place
from engines.visits import KEY, Visit, two, within
from support.turns_steps import apart
from turnlane import Enqueue, Lanes, Runtime
from turnlane.engines import Engine
from turnlane.errors import EngineUnavailable, LanesDraining, OutcomeUnknown, WaitTimeout
from turnlane.hooks import DrainStarted
from turnlane.lanes.shared import SharedGate

pytestmark = pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)


def drained(lanes: Lanes) -> asyncio.Event:
    """Return what is set when these lanes begin to drain."""
    event = asyncio.Event()
    lanes.hooks.on(DrainStarted, lambda _: event.set())
    return event


async def test_a_snapshot_sees_the_turns_of_all_workers(tmp_path: Path, place: Place) -> None:
    """Who holds and who waits, in order, with ages; each worker alone sees its own."""
    async with two(tmp_path, place) as (one, other):
        first = await Visit(one).running()
        second = await Visit(other).waiting()
        third = await Visit(one).waiting()
        for lanes in (one, other):
            (lane,) = await lanes.snapshot_everywhere()
            assert lane.key == KEY
            assert lane.holder is not None
            assert first.turn is not None
            assert lane.holder.turn == first.turn.id
            assert lane.since == pytest.approx(time.time() - lane.holder.age, abs=5)
            assert [turn.age >= 0 for turn in lane.waiting] == [True, True]
            assert not lane.paused
        (here,) = other.snapshot()
        assert (here.holder, len(here.waiting)) == (None, 1)
        for visit in (first, second, third):
            await visit.left()


async def test_a_pause_is_seen_by_all_workers(tmp_path: Path, place: Place) -> None:
    """By the one that looks, and by the one whose turn comes."""
    async with two(tmp_path, place) as (one, other):
        one.pause(KEY)
        waiting = await Visit(one).waiting()  # behind the pause, on its way to the engine
        later = await Visit(other).waiting()
        (lane,) = await other.snapshot_everywhere()
        assert (lane.paused, lane.holder, len(lane.waiting)) == (True, None, 2)
        one.resume(KEY)
        await waiting.running()
        await waiting.left()
        await later.left()


async def test_a_drain_everywhere_reaches_all_workers(tmp_path: Path, place: Place) -> None:
    """Who waits is told, who comes is refused, who runs goes on; it returns when nobody runs any more, anywhere."""
    async with two(tmp_path, place) as (one, other):
        heard = drained(other)
        running = await Visit(other).running()
        waiting = await Visit(other).waiting()
        draining = apart(one.drain(everywhere=True))
        await within(heard.wait())
        with pytest.raises(LanesDraining):
            await within(waiting.task)
        for lanes in (one, other):
            with pytest.raises(LanesDraining):
                await Visit(lanes).task
        assert not draining.done()
        await running.left()
        assert await within(draining) == 0
        await one.undrain(everywhere=True)
        while other.gate.draining:
            await asyncio.wait([apart(asyncio.sleep(0))])
        for lanes in (one, other):
            await (await Visit(lanes).running()).left()


async def test_a_drain_everywhere_counts_who_still_runs(tmp_path: Path, place: Place) -> None:
    """In all workers, when its time is over; a drain of one worker counts its own, and leaves the others alone."""
    async with two(tmp_path, place) as (one, other):
        first = await Visit(other).running()
        assert await one.drain(0) == 0
        second = await Visit(other).waiting()
        await first.left()
        await second.running()
        assert await one.drain(0, everywhere=True) == 1
        assert await Runtime(lanes=one, sessions="memory://").drain(0, everywhere=True) == 1
        await second.left()


async def test_a_worker_that_comes_later_takes_turns(tmp_path: Path, place: Place) -> None:
    """A drain is for those that are up: those that take their places serve."""
    make = place(tmp_path)
    async with Lanes(make()) as old, Lanes(make()) as new:
        assert await old.drain(everywhere=True) == 0
        visit = await Visit(new).running()
        assert await old.drain(0) == 0
        await visit.left()


async def test_an_engine_that_does_not_answer_is_told(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that does not answer is told of; this worker drains all the same."""

    async def unreachable(self: Engine, key: str | None = None, paused: bool = True) -> None:
        raise EngineUnavailable(self.where, operation="be asked", reason="it is away", key=key or "")

    monkeypatch.setattr("turnlane.lanes.shared.PATIENCE", 0.0)
    async with two(tmp_path, place) as (one, _):
        assert isinstance(one.gate, SharedGate)
        kind = type(one.gate.engine)
        with monkeypatch.context() as patch:
            patch.setattr(kind, "pause", unreachable)
            patch.setattr(kind, "look", unreachable)
            with pytest.raises(EngineUnavailable, match="it is away"):
                await one.drain(0, everywhere=True)
            assert one.gate.draining
            with pytest.raises(EngineUnavailable, match="it is away"):
                await one.undrain(everywhere=True)
            assert not one.gate.draining
            with pytest.raises(EngineUnavailable, match="it is away"):
                await one.snapshot_everywhere()


async def test_what_only_looks_has_no_unknown_outcome(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that does not say whether it has looked is one that can not be used."""
    async with two(tmp_path, place) as (one, _):
        await Visit(one).left()

        async def look(self: Engine) -> None:
            raise OutcomeUnknown("there", operation="look at lanes", reason="no answer")

        assert isinstance(one.gate, SharedGate)
        with monkeypatch.context() as patched:
            patched.setattr(type(one.gate.engine), "look", look)
            with pytest.raises(EngineUnavailable, match="there could not look at lanes: no answer"):
                await one.snapshot_everywhere()


async def test_who_has_waited_too_long_is_not_told_that_nobody_held_the_lane(tmp_path: Path, place: Place) -> None:
    """Another process may, of which this one does not know who it is."""
    async with two(tmp_path, place) as (one, other), one.turn(KEY):
        with pytest.raises(WaitTimeout, match="no turn of this process held it") as caught:
            async with other.turn(KEY, policy=Enqueue(wait_timeout=0.05)):
                raise AssertionError
        assert caught.value.holder is None
