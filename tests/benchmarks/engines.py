"""What a turn and a hand-off cost where lanes are shared, beside the locks people use for that.

All benchmarks with their limits: `cd tests && python -m benchmarks`; this one: `python -m benchmarks.engines`.

A turn: enter and leave, with nobody else. A hand-off in one process: all queue up behind a holder; the time from its
end on is divided by their number. Over four processes: each has as many waiters, all of one key; the time from the
first start to the last end is divided by all of them.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import Context
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import AsyncFileLock

from benchmarks.report import Options, Report, exit_with
from turnlane import Enqueue, Lanes

LOCK, FILES, FILELOCK = "asyncio.Lock", "Lanes('file://')", "filelock.AsyncFileLock"
PATIENT = Enqueue(max_waiting=None)
WAITERS, TURNS, PROCESSES = 50, 2000, 4

Block = Callable[[], AbstractAsyncContextManager[object]]


@asynccontextmanager
async def block_of(name: str, directory: str) -> AsyncGenerator[Block, None]:
    """Open what makes a block that one task at a time is in."""
    if name == LOCK:
        lock = asyncio.Lock()
        yield lambda: lock
    elif name == FILELOCK:
        yield lambda: AsyncFileLock(f"{directory}/lock", is_singleton=False)
    else:
        async with Lanes(f"file://{directory}/lanes") as lanes:
            yield lambda: lanes.turn("hot", policy=PATIENT)


async def turns(block: Block, count: int) -> float:
    """Return the microseconds of one turn, the median of ten rounds."""
    took: list[float] = []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(max(1, count // 10)):
            async with block():
                pass
        took.append((time.perf_counter() - began) / max(1, count // 10))
    return statistics.median(took) * 1e6


async def hand_offs(block: Block, waiters: int) -> float:
    """Return the microseconds of one hand-off."""

    async def one() -> None:
        async with block():
            pass

    async with block():
        line = [asyncio.create_task(one(), context=Context()) for _ in range(waiters)]
        await asyncio.sleep(0.05)  # those that poll have begun to
        began = time.perf_counter()
    await asyncio.gather(*line)
    return (time.perf_counter() - began) / waiters * 1e6


async def over_processes(name: str, directory: str, waiters: int) -> float:
    """Return the microseconds of one hand-off between processes."""
    arguments = [sys.executable, "-m", "benchmarks.engines", "--part", name, directory, str(waiters)]
    place = str(Path(__file__).parents[1])
    processes = [
        await asyncio.create_subprocess_exec(
            *arguments, cwd=place, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        await process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    spans: list[tuple[float, float]] = [json.loads((await process.communicate())[0]) for process in processes]
    return (max(end for _, end in spans) - min(begun for begun, _ in spans)) / (waiters * PROCESSES) * 1e6


async def part(name: str, directory: str, waiters: int) -> None:
    """Be one of the processes."""

    async def one(block: Block) -> None:
        async with block():
            pass

    async with block_of(name, directory) as block:
        print(flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began = time.monotonic()
        await asyncio.gather(*(one(block) for _ in range(waiters)))
        print(json.dumps([began, time.monotonic()]))


async def measure(name: str, directory: str, options: Options) -> tuple[float, float, float]:
    waiters = 5 if options.quick else WAITERS
    async with block_of(name, directory) as block:
        turn = await turns(block, 20 if options.quick else TURNS)
        moved = await hand_offs(block, waiters)
    between = float("nan") if name == LOCK else await over_processes(name, directory, waiters)
    return turn, moved, between


def benchmark(report: Report, options: Options) -> None:
    """Measure each kind once, in one run."""
    report.heading("turns and hand-offs of one hot key, microseconds")
    report.row("", "turn", "hand-off", f"{PROCESSES} processes")
    found: dict[str, tuple[float, float, float]] = {}
    for name in (LOCK, FILES, FILELOCK):
        with TemporaryDirectory() as directory:
            found[name] = asyncio.run(measure(name, directory, options))
        report.row(name, *(f"{each:.1f}" for each in found[name]))
    (lock, _, _), (turn, moved, between), (_, polled, polled_between) = found[LOCK], found[FILES], found[FILELOCK]
    report.limit(f"turn: {FILES} / {LOCK}", turn / lock, 100)
    report.limit(f"hand-off: {FILES} / {FILELOCK}", moved / polled, 1 / 100)
    report.limit(f"hand-off over {PROCESSES} processes: {FILES} / {FILELOCK}", between / polled_between, 1 / 20)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        asyncio.run(part(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        exit_with(benchmark)
