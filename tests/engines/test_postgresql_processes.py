"""Lanes in PostgreSQL among real processes: nobody runs beside another, the order is kept, the dead are passed."""

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from support.postgresql import PostgresqlDatabase
from support.postgresql_lanes import a_process, engine_of
from turnlane import Lanes
from turnlane.engines.postgresql import PostgresqlEngine

PROCESSES = 4


@pytest.mark.stress
@pytest.mark.timeout(120)
async def test_turns_of_many_processes_never_overlap(postgresql: PostgresqlDatabase, tmp_path: Path) -> None:
    """Four with fifty turns each on one key: told by a mark, and by a count that loses what overlaps."""
    url = postgresql.new_url()
    (tmp_path / "count").write_text("0")
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(a_process("turns", url, lease=5.0, path=tmp_path)) for _ in range(PROCESSES)
        ]
        for process in processes:
            await process.said("ready")
        for process in processes:
            await process.go_on()
        found = [(await process.said("done"))["turns"] for process in processes]
    turns = [turn for each in found for turn in each]
    assert not any(turn["overlaps"] for turn in turns)
    assert int((tmp_path / "count").read_text()) == len(turns) == PROCESSES * 50
    order = [int(token) for token in (tmp_path / "order").read_text().split()]
    assert order == sorted(set(order)), "tokens grow in the order in which turns ran"
    for each in found:
        tokens = [turn["token"] for turn in each]
        assert tokens == sorted(tokens)
        numbers = [int(turn["turn"].rpartition("-")[2]) for turn in each]
        assert numbers == sorted(numbers), "turns of a process run in the order in which they came"


async def test_a_killed_process_is_followed_within_its_lease(postgresql: PostgresqlDatabase) -> None:
    """And a second more; the token grows."""
    url, lease = postgresql.new_url(), 1.0
    async with a_process("hold", url, lease=lease) as process, Lanes(PostgresqlEngine(url, lease=lease)) as lanes:
        token = (await process.said("held"))["token"]
        next_one = asyncio.create_task(_token_of(lanes))
        await _somebody_waits(lanes)
        process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        assert await next_one > token
        assert time.monotonic() - killed < lease + 1


async def test_a_stopped_process_is_told_that_it_lost_its_lane(postgresql: PostgresqlDatabase) -> None:
    """When it goes on; its turn is cancelled, and another had the lane meanwhile."""
    url, lease = postgresql.new_url(), 1.0
    async with a_process("hold", url, lease=lease) as process, Lanes(PostgresqlEngine(url, lease=lease)) as lanes:
        token = (await process.said("held"))["token"]
        process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(10), lanes.turn("k") as turn:
            assert turn.token > token
            process.send_signal(signal.SIGCONT)
            assert (await process.said("cancelled"))["lost"] is True
            assert not turn.lost
            assert "keep the lane" in (await process.said("ended"))["error"]


async def _token_of(lanes: Lanes) -> int:
    async with lanes.turn("k") as turn:
        return turn.token


async def _somebody_waits(lanes: Lanes) -> None:
    """Return when the engine knows of a turn that waits."""
    engine = engine_of(lanes)
    async with asyncio.timeout(10):
        while True:
            try:
                if any(lane.waiting for lane in await engine.look("k")):
                    return
            except ConnectionError:  # it is not open yet
                pass
            await asyncio.sleep(0.01)
