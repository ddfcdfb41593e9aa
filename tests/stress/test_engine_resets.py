"""Workers whose connections are reset and delayed all the time, in the middle of whatever they say or are told.

Long form (10,000 resets for each engine, printed figures): `pytest -s tests/stress/test_engine_resets.py --long`
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from support.engine_places import LEASED, empty_place
from support.engine_processes import engine_processes, nothing_left
from support.net_faults import Direction, Fault, Plan, fault_proxy
from turnlane import Lanes, Sessions, Transcripts

pytestmark = [pytest.mark.stress, pytest.mark.timeout(3600)]

WORKERS, AT_ONCE = 4, 3
LEASE = 3.0
KEYS = [f"k{number}" for number in range(5)]
BETWEEN = 0.4  # seconds, at most, between two moments at which all connections are reset, busy or not


@pytest.fixture(params=LEASED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[tuple[str, str], None, None]:
    with empty_place(request.param, tmp_path, request) as url:
        yield request.param, url


def unsteady(chance: random.Random, typical: int) -> Plan:
    """Have each connection reset after some bytes, few or many, in either direction; and some are slow until then."""

    def plan(_: int) -> Fault:
        direction: Direction = chance.choice(("up", "down"))
        after = int(chance.expovariate(1 / typical))
        if chance.random() < 0.05:
            return Fault(direction=direction, after=after, action="delay", seconds=chance.uniform(0, 0.3))
        return Fault(direction=direction, after=after, action="reset")

    return plan


class Told:
    """What all workers have told together. Mutable: all of it."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, int, float, float, bool]] = []
        self.overlaps: list[str] = []
        self.strange: list[str] = []
        self.errors: Counter[str] = Counter()
        self.counted: Counter[str] = Counter()
        self.told: dict[str, dict[str, dict[str, str]]] = {
            "session": defaultdict(dict),
            "transcript": defaultdict(dict),
        }

    def hear(self, visited: dict[str, Any]) -> None:
        self.spans += [tuple(span) for span in visited["spans"]]
        self.overlaps += visited["overlaps"]
        self.strange += visited["strange"]
        self.errors.update(visited["errors"])
        self.counted.update(visited["counted"])
        for name, told in visited["told"].items():
            what, operation = name.split(" ")
            self.told[what][operation.partition("-")[0]][operation] = told

    def outcomes(self, what: str) -> dict[str, int]:
        return dict(Counter(told for operations in self.told[what].values() for told in operations.values()))

    def not_once(self, what: str, name: str, found: list[str]) -> list[str]:
        """Return what is wrong with the operations that were found: more than once, never, or against what was told."""
        times, wrong = Counter(found), list[str]()
        for operation, told in self.told[what][name].items():
            allowed = {"done": (1,), "not done": (0,), "unknown": (0, 1)}[told]
            if times[operation] not in allowed:
                wrong.append(f"{what} {operation}: told {told!r}, and there {times[operation]} times")
        return wrong + [
            f"{what} {operation}: nobody asked" for operation in times.keys() - self.told[what][name].keys()
        ]


async def test_connections_that_are_reset_do_nothing_twice(
    place: tuple[str, str], tmp_path: Path, seed: int, long_form: bool
) -> None:
    """No lane is granted twice, nothing is stored twice, errors are ours; and when it is over all lanes are free."""
    kind, url = place
    resets, chance = 10_000 if long_form else 150, random.Random(seed)
    parts, told = urlsplit(url), Told()
    plan = unsteady(chance, 2000 if kind == "redis" else 5000)
    async with fault_proxy(parts.hostname or "", parts.port or 6379) as proxy:
        slow = urlunsplit(parts._replace(netloc=f"postgres@127.0.0.1:{proxy.port}"))
        slow = slow.replace("postgres@", "", 1) if kind == "redis" else f"{slow}&sslmode=disable"
        transcripts = slow if kind == "postgresql" else str(tmp_path / "transcripts")
        async with engine_processes([slow] * WORKERS, LEASE) as workers:
            proxy.follow(plan)
            proxy.reset_all()
            for number, worker in enumerate(workers):
                facts: dict[str, Any] = {"keys": KEYS, "at_once": AT_ONCE, "directory": str(tmp_path), "pause": 0.01}
                facts |= {"sessions": slow, "transcripts": transcripts, "seed": chance.randrange(2**32)}
                worker.tell("visit", f"w{number}", **facts)
            async with asyncio.timeout(3000 if long_form else 120):
                while proxy.resets < resets:
                    await asyncio.sleep(chance.uniform(0, BETWEEN))  # a connection may be reset at any moment
                    proxy.reset_all()
            proxy.follow(lambda _: None)
            proxy.strike(None)
            for number, worker in enumerate(workers):
                worker.go(f"w{number}")
            for worker in workers:
                told.hear(await worker.told("visited"))
    print(
        f"\n{kind}: {proxy.resets} resets of {proxy.accepted} connections, {len(told.spans)} turns, "
        f"{sum(span[4] for span in told.spans)} lost their lane, {dict(told.errors)}; "
        f"sessions {told.outcomes('session')}, transcripts {told.outcomes('transcript')}"
    )
    assert told.strange == []
    await require_turns_that_exclude_each_other(told, tmp_path)
    await require_stored_once(told, url, url if kind == "postgresql" else transcripts)
    async with Lanes(url) as lanes:
        async with lanes.turn("another"):
            pass
        await nothing_left(lanes, timeout=LEASE + 5)
        for key in KEYS:
            async with lanes.turn(key, policy="reject") as turn:
                assert turn.token > max(span[1] for span in told.spans if span[0] == key)


async def require_turns_that_exclude_each_other(told: Told, directory: Path) -> None:
    assert told.overlaps == []
    for key in KEYS:
        spans = sorted((span for span in told.spans if span[0] == key), key=lambda span: span[2])
        assert all(one[3] <= other[2] for one, other in pairwise(spans)), f"turns of {key} overlap"
        assert all(one[1] < other[1] for one, other in pairwise(spans)), f"tokens of {key} do not grow"
        assert int((directory / f"{key}.counter").read_text()) == told.counted[key]


async def require_stored_once(told: Told, sessions_url: str, transcripts_url: str) -> None:
    wrong: list[str] = []
    async with Sessions(sessions_url) as sessions, Transcripts(transcripts_url) as transcripts:
        for name in told.told["session"]:
            session = await sessions.get(name)
            fields = dict(session.fields) if session is not None else {}
            number = fields.pop("number", 0)
            wrong += told.not_once("session", name, list(fields))
            if session is not None and not number == len(fields) == session.version - 1:
                wrong.append(f"session {name}: {number}, {len(fields)} fields, version {session.version}")
        for name in told.told["transcript"]:
            entries = [str(entry["operation"]) for entry in await transcripts.read(name)]
            wrong += told.not_once("transcript", name, entries)
    assert wrong == []
