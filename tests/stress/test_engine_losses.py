"""Servers that lose what they have, or have their clock set, while lanes are had and waited for.

Long form (more rounds, printed figures): `pytest -s tests/stress/test_engine_losses.py --long`
"""

import asyncio
import random
import statistics
from collections.abc import Callable, Generator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support.engine_places import LEASED
from support.engine_processes import EngineProcess, engine_processes, nothing_left
from support.postgresql_servers import private_postgresql
from support.redis_servers import private_redis
from support.server_clocks import ServerClock
from turnlane import Lanes, Transcripts

pytestmark = [pytest.mark.stress, pytest.mark.timeout(1800)]

LEASE = 3.0
AT_ONCE = 3
KEYS = [f"k{number}" for number in range(4)]
HOUR = 3600
A_MOMENT = 0.5  # seconds by which this machine may be late


class Server:
    """One that is ill-treated. Mutable: `lost`, how often it has lost everything.

    Args:
        kind: of it.
        server: itself.
        clock: that of the server.
    """

    def __init__(self, kind: str, server: Any, clock: ServerClock) -> None:
        self.kind = kind
        self.clock = clock
        self.url: str = f"{server.url}/0" if kind == "redis" else server.url
        self.server = server

    async def restart(self) -> None:
        """Kill it, which leaves nothing of lanes, and start it."""

        def again() -> None:
            self.server.kill()
            self.server.start()

        await asyncio.to_thread(again)

    async def flush(self) -> None:
        """Have it forget everything while it goes on."""
        with self.server.client() as client:
            client.flushall()


@pytest.fixture(params=LEASED)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Server, None, None]:
    with ExitStack() as stack:
        if request.param == "redis":
            clock = ServerClock(tmp_path)
            yield Server("redis", stack.enter_context(private_redis(tmp_path, environment=clock.environment)), clock)
        else:
            yield Server("postgresql", *stack.enter_context(private_postgresql()))


class Seen:
    """What became of a lane that one process had and another waited for, when something happened.

    Mutable: all of it. `both`, seconds for which two believed that they have it; `kept`, how often the first one did.
    """

    def __init__(self, store: str, chance: random.Random) -> None:
        self.both: list[float] = []
        self.kept = 0
        self.keys: list[str] = []
        self.store = store
        self._chance = chance

    async def happen(self, first: EngineProcess, second: EngineProcess, what: Callable[[], Any]) -> None:
        """Have turns, others that wait for their lanes, and then something happen; bring all to their end."""
        keys = [f"h{len(self.keys) + number}" for number in range(AT_ONCE)]
        self.keys += keys
        for key in keys:
            facts: Any = {"key": key, "store": self.store, "pause": 0.1, "seed": self._chance.randrange(2**32)}
            first.tell("write", key, **facts)
            await first.told("runs", name=key)
            second.tell("write", key, **facts)
            await second.told("waits", key=key)
        await asyncio.sleep(self._chance.uniform(0, LEASE / 3))  # at any moment between two renewals
        done = what()
        if done is not None:
            await done
        await asyncio.gather(*(self._end(first, second, key) for key in keys))

    async def _end(self, first: EngineProcess, second: EngineProcess, key: str) -> None:
        try:
            runs = await second.told("runs", name=key, timeout=1.5 * LEASE)
        except TimeoutError:
            self.kept += 1
            first.go(key)
            wrote = await first.told("wrote", name=key)
            assert first.has_told("failed", name=key) is None, "it has lost a lane that nobody else had"
            runs = await second.told("runs", name=key, timeout=LEASE + 2)
        else:
            wrote = await first.told("wrote", name=key)
            assert (await first.told("failed", name=key))["error"] == "EngineUnavailable"
        self.both.append(max(0.0, wrote["ended"] - runs["at"]))
        stored = [found for began, _, found, _ in wrote["attempts"] if began >= runs["at"] and found == "stored"]
        assert stored == [], "who had the lane before has written"
        second.go(key)
        await second.told("wrote", name=key)

    async def require_order(self) -> None:
        async with Transcripts(self.store) as transcripts:
            for key in self.keys:
                tokens = [int(str(entry["token"])) for entry in await transcripts.read(key)]
                assert len(set(tokens)) == 2
                assert all(one <= other for one, other in pairwise(tokens))


@pytest.mark.parametrize("how", ["flushed", "restarted", "clock"])
async def test_a_server_that_forgets_or_is_set_turns_no_token_back(
    server: Server, how: str, tmp_path: Path, seed: int, long_form: bool
) -> None:
    """Nor is a lane stuck; two believe that they have one where the clock was set forward, for a third of a lease."""
    if how == "flushed" and server.kind == "postgresql":
        pytest.skip("there is no such thing: a restart empties the tables")
    chance = random.Random(seed)
    seen = Seen(str(tmp_path / "transcripts"), chance)
    steps = [HOUR, 0, -HOUR, 0]
    events: dict[str, list[Callable[[], Any]]] = {
        "flushed": [server.flush],
        "restarted": [server.restart],
        "clock": [lambda seconds=seconds: server.clock.set(seconds) for seconds in steps],  # type: ignore[misc]
    }
    rounds = (12 if long_form else 1) if how != "clock" else (6 if long_form else 1)
    async with engine_processes([server.url] * 4, LEASE) as (first, second, *visitors):
        for number, worker in enumerate(visitors):
            facts: dict[str, Any] = {"keys": KEYS, "at_once": 2, "directory": str(tmp_path), "pause": 0.05}
            worker.tell("visit", f"v{number}", seed=chance.randrange(2**32), **facts)
        for _ in range(rounds):
            for event in events[how]:
                await seen.happen(first, second, event)
        for number, worker in enumerate(visitors):
            worker.go(f"v{number}")
        visits = [await worker.told("visited") for worker in visitors]
        first.tell("turn", "last", key=KEYS[0])
        assert (await first.told("runs", name="last"))["token"]
        first.go("last")
        await first.told("left", name="last")
    spans = [span for visit in visits for span in visit["spans"]]
    errors = [visit["errors"] for visit in visits]
    longest = overlapping(spans)
    print(
        f"\n{server.kind} {how}: {len(seen.keys)} times, {seen.kept} times who had the lane kept it; both believed for "
        f"{statistics.median(seen.both):.3f} s (median), {max(seen.both):.3f} s (most); of {len(spans)} short turns "
        f"{longest:.3f} s (most), errors {errors}"
    )
    assert [visit["strange"] for visit in visits] == [[], []]
    await seen.require_order()
    assert max(*seen.both, longest) <= (LEASE / 3 + A_MOMENT if how == "clock" else 0)
    async with Lanes(server.url) as lanes:
        async with lanes.turn("another"):
            pass
        await nothing_left(lanes, timeout=LEASE + 5)


def overlapping(spans: list[tuple[str, int, float, float, bool]]) -> float:
    """Return for how long, at most, a turn went on beside the next one, whose token is higher."""
    longest = 0.0
    for key in KEYS:
        own = sorted((span for span in spans if span[0] == key), key=lambda span: span[2])
        assert all(one[1] < other[1] for one, other in pairwise(own)), f"tokens of {key} do not grow"
        longest = max([longest, *(one[3] - other[2] for one, other in pairwise(own))])
    return longest
