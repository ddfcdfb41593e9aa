"""Who has a leased lane is killed, again and again: how soon the next one starts, in another process.

Long form (200 rounds, printed figures): `pytest -s tests/stress/test_engine_kills.py --long`
"""

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Generator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from support.engine_places import LEASED, empty_place
from support.engine_processes import EngineProcess, engine_process, engine_processes, nothing_left
from turnlane import Lanes

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL"),
]

LEASE = 1.0
AT_ONCE = 5  # lanes of each of the processes that are killed


@pytest.fixture(params=LEASED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[tuple[str, str], None, None]:
    with empty_place(request.param, tmp_path, request) as url:
        yield request.param, url


class Rounds:
    """Mutable: `took`, seconds from each kill to the next turn; `tokens`, of each lane as they were granted."""

    def __init__(self, url: str, next_ones: list[EngineProcess], chance: random.Random) -> None:
        self.took: list[float] = []
        self.tokens: dict[str, list[int]] = {}
        self._url = url
        self._next_ones = next_ones
        self._chance = chance

    async def kill(self, group: int, number: int, lanes: int) -> None:
        """Have a process with so many lanes for which others wait, and kill it at any moment of its lease."""
        names = [f"{group}-{number}-{lane}" for lane in range(lanes)]
        next_one = self._next_ones[group]
        async with engine_process(self._url, LEASE, warm=False) as holder:
            for name in names:
                holder.tell("turn", name, key=f"k{name}")
                self.tokens[name] = [(await holder.told("runs", name=name))["token"]]
                next_one.tell("turn", name, key=f"k{name}")
                await next_one.told("waits", key=f"k{name}")
            await asyncio.sleep(self._chance.uniform(0, LEASE))  # the kill may come at any moment
            killed = time.monotonic()
            await holder.kill()
            for name in names:
                runs = await next_one.told("runs", name=name)
                self.took.append(runs["at"] - killed)
                self.tokens[name].append(runs["token"])
        for name in names:
            next_one.go(name)
            await next_one.told("left", name=name)


async def test_a_holder_that_is_killed_is_followed(place: tuple[str, str], seed: int, long_form: bool) -> None:
    """Within its lease and a second, and nothing is left. (In a directory: `test_local_engine_kills`.)"""
    kind, url = place
    groups, numbers, lanes = (5, 8, AT_ONCE) if long_form else (2, 1, AT_ONCE)
    async with AsyncExitStack() as stack:
        next_ones = await stack.enter_async_context(engine_processes([url] * groups, LEASE))
        rounds = Rounds(url, next_ones, random.Random(seed))

        async def one_after_the_other(group: int) -> None:
            for number in range(numbers):
                await rounds.kill(group, number, lanes)

        await asyncio.gather(*(one_after_the_other(group) for group in range(groups)))
        await stack.aclose()
        async with Lanes(url) as looking:
            async with looking.turn("last"):
                pass
            await nothing_left(looking)
    assert len(rounds.took) == groups * numbers * lanes
    assert all(earlier < later for earlier, later in rounds.tokens.values())
    beyond = sorted(took - LEASE for took in rounds.took)
    median, p95 = statistics.median(beyond), beyond[int(0.95 * (len(beyond) - 1))]
    told = f"median {median * 1e3:.1f} ms, p95 {p95 * 1e3:.1f} ms, most {beyond[-1] * 1e3:.1f} ms"
    print(f"\n{kind}: killed {len(beyond)}: {told} beyond the lease")
    assert beyond[-1] < 1.0
