"""Who has a lane in a directory is killed, again and again: how soon the next one starts, in another process.

What is measured begins before the kill and ends in the block of the next turn, by the clock of that process. Printed
beside it: what of that is the kernel's, until it tells that the process has ended, and what is left for the lanes.
"""

import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.engine_processes import engine_process, nothing_left
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


@contextmanager
def ended(pid: int) -> Generator[int, None, None]:
    """Have a descriptor for a block that can be read when a process has ended."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def started(lanes: Lanes) -> tuple[float, int]:
    async with lanes.turn(KEY) as turn:
        return time.perf_counter(), turn.token


def note_time(times: list[float]) -> None:
    times.append(time.perf_counter())


def of(seconds: list[float]) -> tuple[float, float, float]:
    """Return the median, what 95 of 100 are below, and the longest."""
    found = sorted(seconds)
    return statistics.median(found), found[int(0.95 * (len(found) - 1))], found[-1]


async def test_the_next_one_starts_when_the_kernel_tells_of_the_end(tmp_path: Path, long_form: bool) -> None:
    """Every time, with a higher token; nothing of the dead is left."""
    rounds = 200 if long_form else 4
    url, tokens = f"file://{tmp_path}/lanes", list[int]()
    took, ours = list[float](), list[float]()
    queued, loop = asyncio.Event(), asyncio.get_running_loop()
    async with Lanes(url) as lanes:
        lanes.hooks.on(TurnQueued, lambda _: queued.set())
        for number in range(rounds):
            async with engine_process(url, 0.0, warm=False) as holder:
                holder.tell("turn", str(number), key=KEY)
                tokens.append((await holder.told("runs"))["token"])
                waiting = asyncio.create_task(started(lanes))
                await queued.wait()
                queued.clear()
                told = list[float]()
                with ended(holder.pid) as descriptor:
                    loop.add_reader(descriptor, note_time, told)
                    killed = time.perf_counter()
                    os.kill(holder.pid, signal.SIGKILL)
                    at, token = await asyncio.wait_for(waiting, 20)
                    loop.remove_reader(descriptor)
                took.append(at - killed)
                ours.append(at - told[0] if told else 0.0)
                tokens.append(token)
        await nothing_left(lanes)
        left = list((tmp_path / "lanes" / "workers").iterdir())
        assert len(left) == 2, left
    assert tokens == sorted(set(tokens))
    (median, p95, most), (our_median, our_p95, _) = of(took), of(ours)
    print(f"\nkilled {rounds}: median {median * 1e3:.2f} ms, p95 {p95 * 1e3:.2f} ms, most {most * 1e3:.2f} ms")
    print(f"  of that after the end of the process: median {our_median * 1e3:.2f} ms, p95 {our_p95 * 1e3:.2f} ms")
    assert median < MEDIAN * SLACK
    assert p95 < P95 * SLACK
