"""What an owned append, and letting go of a transcript and taking it back, cost as the transcript grows.

All benchmarks with their limits: `cd tests && python -m benchmarks`; this one: `python -m benchmarks.transcripts`.

Appends of one entry of about 400 bytes; beside it what others do: write and look at the file, which proves nothing;
read and hash the whole file before each write, which proves the same; and take a lock file of `filelock`. Release and
return: `async with transcript.released()` around nothing. All files are in one directory; figures are medians.

What it costs to note which turn wrote what: appends of one turn, with `trace_turns=True` and without, one after the
other in a random order, in files and in a database.
"""

import asyncio
import gc
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmarks.report import Options, Report, exit_with
from turnlane.transcripts import Transcript, Transcripts

SIZES = (10_000, 1_000_000, 4_000_000, 16_000_000, 100_000_000)
ENTRY: dict[str, Any] = {"role": "assistant", "content": "x" * 360}
LINE = b'{"role":"assistant","content":"' + b"x" * 360 + b'"}\n'
FILLER: dict[str, Any] = {"role": "user", "content": "x" * 4000}
APPENDS, RELEASES = 400, 15
NOTED_BEFORE = 25
NOTED_AT_MOST = {"JSONL": 1.5, "SQLite": 1.2}


async def median(work: Callable[[], Awaitable[object]], times: int) -> float:
    """Return the nanoseconds one of them takes."""
    took: list[int] = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(times):
            began = time.perf_counter_ns()
            await work()
            took.append(time.perf_counter_ns() - began)
    finally:
        gc.enable()
    return statistics.median(took)


async def filled(transcript: Transcript, size: int) -> None:
    """Make a transcript about as long as asked."""
    left = size
    while left > 0:
        count = max(1, min(left // 4040, 2000))
        await transcript.append(*[FILLER] * count)
        left -= count * 4040


async def others(directory: Path, size: int, times: int) -> dict[str, float]:
    """Measure what others do to append a line to a file of that size."""
    path = directory / "others.jsonl"
    path.write_bytes((LINE * (size // len(LINE) + 1))[:size])
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    lock = FileLock(directory / "others.lock")

    async def plain() -> None:
        os.write(fd, LINE)
        os.fstat(fd)

    async def whole() -> None:
        hashlib.blake2b(os.pread(fd, os.fstat(fd).st_size, 0)).digest()
        os.write(fd, LINE)

    async def locked() -> None:
        with lock:
            os.write(fd, LINE)

    try:
        return {
            "os.write and fstat": await median(plain, times),
            "reading and hashing it before": await median(whole, max(3, times // 40)),
            "filelock around os.write": await median(locked, times),
        }
    finally:
        os.close(fd)


async def measured(directory: Path, options: Options) -> dict[int, dict[str, float]]:
    """Measure every size."""
    found: dict[int, dict[str, float]] = {}
    appends, releases = (20, 3) if options.quick else (APPENDS, RELEASES)
    for size in sizes(options):
        transcripts = Transcripts(directory / "transcripts")
        figures = found[size] = await others(directory, size, appends)
        async with transcripts.open(f"size-{size}") as transcript:
            await filled(transcript, size)

            async def append(transcript: Transcript = transcript) -> None:
                await transcript.append(ENTRY)

            async def release(transcript: Transcript = transcript) -> None:
                async with transcript.released():
                    pass

            figures["transcript.append"] = await median(append, appends)
            figures["release and return"] = await median(release, releases)

        async def peer(size: int = size, transcripts: Transcripts = transcripts) -> None:
            await transcripts.append(f"size-{size}", ENTRY)

        figures["transcripts.append, not open"] = await median(peer, appends)
    return found


async def noted(directory: Path, options: Options) -> dict[str, tuple[float, float]]:
    """Measure appends of a turn that is not noted, and of one that is, in each kind of store."""
    found: dict[str, tuple[float, float]] = {}
    for name, url in {"JSONL": str(directory / "%s"), "SQLite": f"sqlite:///{directory}/%s.db"}.items():
        async with (
            Transcripts(url % "plain") as plain,
            Transcripts(url % "noted", trace_turns=True) as noting,
            plain.open("one", token=1, turn="a-turn") as without,
            noting.open("one", token=1, turn="a-turn") as with_notes,
        ):
            took: dict[Transcript, list[int]] = {without: [], with_notes: []}
            order, randomly = [without, with_notes], options.random
            for transcript in order:
                await transcript.append(*[ENTRY] * NOTED_BEFORE)
            for _ in range(20 if options.quick else APPENDS):
                randomly.shuffle(order)
                for transcript in order:
                    began = time.perf_counter_ns()
                    await transcript.append(ENTRY)
                    took[transcript].append(time.perf_counter_ns() - began)
        found[name] = statistics.median(took[without]), statistics.median(took[with_notes])
    return found


def sizes(options: Options) -> tuple[int, ...]:
    return SIZES[:2] if options.quick else SIZES


def benchmark(report: Report, options: Options) -> None:
    """Measure appends and releases at each size."""
    gc.freeze()  # or each collection looks at all that was imported
    try:
        with tempfile.TemporaryDirectory() as directory:
            found = asyncio.run(measured(Path(directory), options))
            turns = asyncio.run(noted(Path(directory), options))
    finally:
        gc.unfreeze()
    smallest, *_, largest = found
    report.heading("transcripts, microseconds each, by the size of the file")
    report.row("", *(f"{size / 1e6:g} MB" for size in found))
    for name in found[smallest]:
        report.row(name, *(f"{figures[name] / 1000:.1f}" for figures in found.values()))
    report.heading("the same, as ratios")
    for name in ("os.write and fstat", "reading and hashing it before", "filelock around os.write"):
        ratios = (figures["transcript.append"] / figures[name] for figures in found.values())
        report.row(f"transcript.append / {name}", *(f"{ratio:.3g}" for ratio in ratios))
    for name in ("transcript.append", "transcripts.append, not open"):
        report.limit(f"{name}: largest / smallest file", found[largest][name] / found[smallest][name], 2.5)
    bound = [figures["release and return"] for size, figures in found.items() if size <= 4_000_000]
    report.limit(
        "release and return: largest file / the largest that is compared by content",
        found[largest]["release and return"] / max(bound),
        1.0,
    )
    report.heading("appends of a turn, microseconds each")
    report.row("", "plain", "trace_turns", "ratio")
    for name, (plain, traced) in turns.items():
        report.row(name, f"{plain / 1000:.1f}", f"{traced / 1000:.1f}", f"{traced / plain:.2f}")
        report.limit(f"append with trace_turns / without, {name}", traced / plain, NOTED_AT_MOST[name])


if __name__ == "__main__":
    exit_with(benchmark)
