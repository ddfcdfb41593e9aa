"""Real processes that share lanes, on every engine: never two turns at once, in order, whoever dies or stands still."""

import asyncio
import signal
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path

import pytest

from support.engine_places import LEASED, SHARED, empty_place
from support.engine_processes import engine_process, engine_processes

pytestmark = [pytest.mark.stress, pytest.mark.timeout(300)]

WORKERS, TURNS, LONG_TURNS = 4, 50, 500
LEASE = 1.0
K = "agent:main:alice"


@pytest.fixture(params=SHARED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str, None, None]:
    with empty_place(request.param, tmp_path, request) as url:
        yield url


@pytest.fixture(params=LEASED)
def leased(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str, None, None]:
    with empty_place(request.param, tmp_path, request) as url:
        yield url


async def test_turns_of_several_processes_exclude_each_other(place: str, tmp_path: Path, long_form: bool) -> None:
    """By a marker and by a counter that loses what two add at once; in the order of tickets; with tokens that grow."""
    turns, places = LONG_TURNS if long_form else TURNS, list[tuple[int, int, int]]()
    async with engine_processes([place] * WORKERS, 15.0) as workers:
        (tmp_path / "first").mkdir()
        half = turns // 2
        for name, after, count, directory in (
            ("first", 0, 1, tmp_path / "first"),  # when all have had a turn, all are open, and begin together
            ("w", 0, half, tmp_path),
            ("w", half, turns - half, tmp_path),  # when all have had some, so that none is done before another begins
        ):
            for number, worker in enumerate(workers):
                worker.tell("turns", f"{name}{number}", key=K, after=after, count=count, directory=str(directory))
            for number, worker in enumerate(workers):
                done = await worker.told("done", name=f"{name}{number}")
                assert done["overlaps"] == 0
                places += [(*place, number) for place in done["places"] if name == "w"]
    assert int((tmp_path / "counter").read_text()) == WORKERS * turns
    ran = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    tokens = [int(token) for token, _, _ in ran]
    assert len(tokens) == WORKERS * turns
    assert all(earlier < later for earlier, later in pairwise(tokens)), "tokens grow from turn to turn"
    for worker_name in {name for _, name, _ in ran}:
        own = [int(number) for _, name, number in ran if name == worker_name]
        assert own == list(range(turns)), "turns of a process run in the order in which they came"
    in_line = [(place, worker) for _, place, worker in sorted(places) if place]  # 0: had an idle lane at once
    assert all(earlier < later for (earlier, _), (later, _) in pairwise(in_line)), "whoever came first runs first"
    assert len({worker for _, worker in in_line}) == WORKERS
    assert len(in_line) > WORKERS * turns // 2
    begins = [[name for _, name, _ in ran].index(f"w{number}") for number in range(WORKERS)]
    ends = [len(ran) - 1 - [name for _, name, _ in reversed(ran)].index(f"w{number}") for number in range(WORKERS)]
    assert max(begins) < min(ends), "their turns did not overlap"


async def test_those_who_are_killed_are_passed(place: str) -> None:
    """Who has the lane, and of four who wait the first and the third, who are one process."""
    async with engine_processes([place] * 4, LEASE) as (holder, dies, second, fourth):
        holder.tell("turn", "holder", key=K)
        tokens = [(await holder.told("runs"))["token"]]
        for ahead, (worker, name) in enumerate(
            [(dies, "first"), (second, "second"), (dies, "third"), (fourth, "fourth"), (second, "fifth")], 1
        ):
            worker.tell("turn", name, key=K)
            assert (await worker.told("waits"))["ahead"] == ahead
        await dies.kill()
        await holder.kill()
        for worker, name in ((second, "second"), (fourth, "fourth"), (second, "fifth")):
            tokens.append((await worker.told("runs", timeout=LEASE + 1 if name == "second" else 4))["token"])
            assert worker.has_told("runs") is None
            worker.go(name)
            await worker.told("left", name=name)
    assert all(earlier < later for earlier, later in pairwise(tokens))


async def test_a_process_that_stood_still_is_told_that_it_lost_its_lane(leased: str) -> None:
    """When it goes on: its turn is cancelled then, and another has the lane, with a higher token."""
    async with engine_processes([leased] * 2, LEASE) as (holder, other):
        holder.tell("turn", "holder", key=K)
        token = (await holder.told("runs"))["token"]
        other.tell("turn", "other", key=K)
        await other.told("waits")
        holder.send_signal(signal.SIGSTOP)
        assert (await other.told("runs", timeout=LEASE + 1))["token"] > token
        holder.send_signal(signal.SIGCONT)
        assert (await holder.told("cancelled"))["lost"] is True
        failed = await holder.told("failed")
        assert failed["error"] == "EngineUnavailable"
        assert "keep the lane" in failed["reason"]
        other.go("other")
        await other.told("left")


@pytest.mark.parametrize("place", ["file"], indirect=True)
async def test_a_process_that_stands_still_keeps_its_lanes_in_a_directory(place: str, long_form: bool) -> None:
    """Nobody starts beside it, and it goes on where it was."""
    async with engine_processes([place] * 2, LEASE) as (holder, other):
        for stop in range(20 if long_form else 1):
            tokens: dict[str, int] = {}
            for name in (names := [f"{stop}-{lane}" for lane in range(50)]):
                holder.tell("turn", name, key=name)
                tokens[name] = (await holder.told("runs", name=name))["token"]
                other.tell("turn", name, key=name)
                await other.told("waits", key=name)
            holder.send_signal(signal.SIGSTOP)
            with pytest.raises(TimeoutError):
                await other.told("runs", timeout=2 * LEASE)
            holder.send_signal(signal.SIGCONT)
            for name in names:
                holder.go(name)
                await holder.told("left", name=name)
                assert (await other.told("runs"))["token"] > tokens[name], "one, and only this one, is handed on"
                other.go(name)
                await other.told("left", name=name)


async def test_many_processes_may_start_at_once(place: str, tmp_path: Path) -> None:
    """On a place where nobody was before."""
    async with engine_processes([place] * 6, LEASE, warm=False) as workers:
        for number, worker in enumerate(workers):
            worker.tell("turns", f"w{number}", key=K, count=3, directory=str(tmp_path))
        for worker in workers:
            assert (await worker.told("done"))["overlaps"] == 0
    assert int((tmp_path / "counter").read_text()) == 18
    if place.startswith("file"):
        assert list((tmp_path / "lanes" / "workers").iterdir()) == [], "those who ended in order leave nothing"


async def test_a_worker_that_ends_gives_its_lane_back(place: str) -> None:
    """At once, whatever the lease."""
    async with engine_process(place, 30.0) as other, engine_process(place, 30.0) as holder:
        holder.tell("turn", "holder", key=K)
        await holder.told("runs")
        other.tell("turn", "other", key=K)
        await other.told("waits")
        ending = asyncio.create_task(holder.aclose())
        await other.told("runs", timeout=5)
        await ending
