"""Who has a lane in a directory is killed, again and again: how soon the next one starts, in another process."""

import asyncio
import os
import signal
import statistics
import sys
import time
from pathlib import Path

import pytest

from support.server_process import server_process
from turnlane import Lanes
from turnlane.hooks import TurnQueued

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of the end of a process"),
]

KEY = "agent:main:alice"
MEDIAN, P95 = 0.005, 0.020  # seconds, on a machine with nothing else to do
SLACK = 20  # on any other


async def started(lanes: Lanes) -> tuple[float, int]:
    async with lanes.turn(KEY) as turn:
        return time.perf_counter(), turn.token


async def test_the_next_one_starts_when_the_kernel_tells_of_the_end(tmp_path: Path, long_form: bool) -> None:
    """Every time, with a higher token; nothing of the dead is left."""
    rounds = 200 if long_form else 4
    url, took, tokens = f"file://{tmp_path}/lanes", list[float](), list[int]()
    queued = asyncio.Event()
    async with Lanes(url) as lanes:
        lanes.hooks.on(TurnQueued, lambda _: queued.set())
        for number in range(rounds):
            async with server_process("engine_worker.py", url, str(tmp_path), str(number), "hold") as holder:
                tokens.append((await holder.reported("runs"))["token"])
                waiting = asyncio.create_task(started(lanes))
                await queued.wait()
                queued.clear()
                killed = time.perf_counter()
                os.kill(holder.port, signal.SIGKILL)
                at, token = await asyncio.wait_for(waiting, 20)
                took.append(at - killed)
                tokens.append(token)
                await holder.ended()
        assert await lanes.gate.engine.look() == []  # type: ignore[attr-defined]
        left = list((tmp_path / "lanes" / "workers").iterdir())
        assert len(left) == 2, left
    assert tokens == sorted(set(tokens))
    took.sort()
    median, p95 = statistics.median(took), took[int(0.95 * (len(took) - 1))]
    print(f"\nkilled {rounds}: median {median * 1e3:.2f} ms, p95 {p95 * 1e3:.2f} ms, most {took[-1] * 1e3:.2f} ms")
    assert median < MEDIAN * SLACK
    assert p95 < P95 * SLACK
