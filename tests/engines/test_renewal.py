"""Leases that can not be renewed: their turns are given up before anybody else may have the lanes."""

import asyncio
import random
from collections.abc import Iterable
from contextlib import suppress

import pytest

from support.seeded_loop import LoopClock, SeededLoop
from turnlane import Lanes
from turnlane.engines import Alive, Answer, Ask, Lost, Note
from turnlane.engines.memory import MemoryEngine
from turnlane.errors import EngineUnavailable
from turnlane.testing import ManualClock

LEASE = 3.0


class Failing(MemoryEngine):
    """One that is renewed a few times, and then fails, each time after some seconds.

    Mutable: `good` (how many times are left), `is_lost` (another has the lane), `fails_after`, `renewed` (when the last
    renewal began that came through).
    """

    lease = LEASE

    def __init__(self, good: int, fails_after: list[float]) -> None:
        super().__init__()
        self.good = good
        self.is_lost = False
        self.fails_after = fails_after
        self.renewed = asyncio.get_running_loop().time()

    async def renew(self, tickets: Iterable[Alive]) -> list[Note]:
        loop = asyncio.get_running_loop()
        if self.is_lost:
            return [Lost(alive.key, alive.ticket) for alive in tickets]
        if self.good:
            self.good -= 1
            self.renewed = loop.time()
            return await super().renew(tickets)
        await asyncio.sleep(self.fails_after.pop(0) if self.fails_after else 0)
        raise EngineUnavailable(self.where, operation="renew tickets", reason="it is not there")


def given_up_after(good: int, fails_after: list[float]) -> float:
    """Return how long after its last renewal a turn is given up for lost."""
    loop = SeededLoop()

    async def turn() -> float:
        engine, ended = Failing(good, fails_after), 0.0
        with suppress(EngineUnavailable):
            async with Lanes(engine, clock=LoopClock(loop)) as lanes, lanes.turn("k"):
                try:
                    await asyncio.sleep(100)
                finally:
                    ended = loop.time()
        return ended - engine.renewed

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(turn())


def test_a_lease_that_is_not_renewed_is_given_up_after_two_thirds_of_it(seed: int) -> None:
    """However long the engine takes to fail, each time; and not before."""
    chance = random.Random(seed)
    for number in range(300):
        fails_after = [chance.choice((0.0, 0.3, 0.99, 0.999999, 1.0, 1.5, 50.0)) for _ in range(4)]
        took = given_up_after(chance.randrange(4), list(fails_after))
        assert took == pytest.approx(2 * LEASE / 3, abs=1e-6), f"--seed={seed}, {number}: {fails_after}"


def lost_after_standing_still(how: str, seconds: float, *, good: int = 0) -> tuple[bool, float]:
    """Stand still in a turn, with an engine that fails afterwards, or answers; return whether it was lost, and when."""
    loop = SeededLoop()

    async def turn() -> tuple[bool, float]:
        engine, lost, ended = Failing(good, []), False, 0.0
        with suppress(EngineUnavailable):
            async with Lanes(engine, clock=LoopClock(loop)) as lanes, lanes.turn("k") as turn:
                await asyncio.sleep(good * LEASE / 3)
                engine.good = 1000 if how == "answers" else 0
                engine.is_lost = how == "another has it"
                loop.stand_still(seconds)
                woken = loop.time()
                try:
                    await asyncio.sleep(100)
                finally:
                    lost, ended = turn.lost, loop.time() - woken
        return lost, ended

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(turn())


@pytest.mark.parametrize("good", [0, 1, 2])
@pytest.mark.parametrize("seconds", [0.9 * LEASE, LEASE, 20 * LEASE])
def test_whoever_stood_still_asks_before_it_gives_its_lane_up(seconds: float, good: int) -> None:
    """Nobody may have come meanwhile; where somebody has, or nobody answers, the turn is lost at once."""
    assert lost_after_standing_still("answers", seconds, good=good) == (False, 100)
    assert lost_after_standing_still("another has it", seconds, good=good) == (True, 0)
    lost, after = lost_after_standing_still("fails", seconds, good=good)
    assert lost
    assert after <= LEASE / 6


class StoodStill(MemoryEngine):
    """One that is asked by a process that stands still for a whole lease, right behind what it has sent."""

    lease = LEASE
    immediate = True

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._lanes_clock = clock
        self.is_open = False

    async def acquire(self, key: str, ask: Ask) -> Answer:
        answer = await super().acquire(key, ask)
        if self.is_open:
            self._lanes_clock.advance(LEASE)
            await asyncio.sleep(0)
        self.is_open = True
        return answer


async def test_a_grant_that_may_have_ended_before_it_was_heard_is_not_taken() -> None:
    """The lease counts from before the step was sent; renewing tells whether the lane still is this turn's."""
    clock = ManualClock()
    async with Lanes(StoodStill(clock), clock=clock) as lanes:
        async with lanes.turn("k"):
            pass

        async def visit() -> None:
            async with lanes.turn("k"):
                pass

        arriving = asyncio.create_task(visit())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not arriving.done()
        arriving.cancel()
        await asyncio.wait([arriving])
