"""Children that a process forks in the middle of its turn: they let go of nothing, renew nothing, and keep nothing."""

import asyncio
import os
import signal
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest

from support.engine_forks import FORKS, REFUSED
from support.engine_places import SHARED, empty_place
from support.engine_processes import engine_process, engine_processes

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="nothing is forked there"),
]

LEASE = 1.0
K = "agent:main:alice"
ENDS = [way for way in FORKS if way not in ("outlives", "unwinds")]


@pytest.fixture(params=SHARED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str, None, None]:
    with empty_place(request.param, tmp_path, request) as url:
        yield url


async def test_the_end_of_a_child_is_nothing_to_its_parents_lanes(place: str) -> None:
    """However it ends, and whatever it tries with what it has inherited: the parent has them, and renews them."""
    async with engine_processes([place] * 2, LEASE) as (parent, other):
        for way in ENDS:
            parent.tell("fork", way, key=way, how=way)
            await parent.told("runs", name=way)
            other.tell("turn", way, key=way)
            await other.told("waits", key=way)
            forked = await parent.told("forked", name=way)
            assert forked["child"] == (REFUSED if way in ("asks", "takes_turns") else 0), way
        async with engine_process(place, LEASE):  # which looks who is there
            await asyncio.sleep(1.5 * LEASE)  # nothing happens
        for way in ENDS:
            assert other.has_told("runs", name=way) is None, way
            parent.go(way)
            assert (await parent.told("still", name=way))["lost"] is False
            await parent.told("left", name=way)
            await other.told("runs", name=way, timeout=5)


async def test_a_child_that_leaves_through_its_parents_turn_lets_nothing_go(place: str) -> None:
    """It disturbs the loop they share, as with any program; but nobody has the lane before the parent is out of it."""
    async with engine_processes([place] * 2, LEASE) as (parent, other):
        parent.tell("fork", "it", key=K, how="unwinds")
        token = (await parent.told("runs"))["token"]
        other.tell("turn", "it", key=K)
        await other.told("waits")
        found = await parent.told("forked", "failed")
        async with engine_process(place, LEASE):  # which looks who is there
            await asyncio.sleep(LEASE)
        if found["event"] == "forked":
            parent.go("it")
            found = await parent.told("still", "failed", timeout=LEASE + 5)
        runs = await other.told("runs", timeout=LEASE + 5)
        assert found["event"] == "failed" or found["at"] < runs["at"]  # it leaves at once then
        assert runs["token"] > token


async def test_a_child_that_outlives_its_parent_keeps_no_lane(place: str) -> None:
    """The next one has it as soon as if there was no child."""
    async with engine_processes([place] * 2, LEASE) as (parent, other):
        parent.tell("fork", "it", key=K, how="outlives")
        token = (await parent.told("runs"))["token"]
        child = (await parent.told("forked"))["child"]
        try:
            other.tell("turn", "it", key=K)
            await other.told("waits")
            await parent.kill()
            assert (await other.told("runs", timeout=LEASE + 1))["token"] > token
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
