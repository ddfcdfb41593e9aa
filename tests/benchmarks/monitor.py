"""How soon a `TranscriptMonitor` tells of an edit among 10,000 transcripts, and what it costs while nobody edits.

All benchmarks with their limits: `cd tests && python -m benchmarks`; this one: `python -m benchmarks.monitor`.

Latency: from before an edit of a file drawn by lot, by plain file operations, until the event is in the hands of
whoever iterates over the monitor, in an event loop that does nothing else. The pauses between edits are random, so that
the watcher's steps are not met always at the same moment. At rest: the processor time of the whole process, threads of
watchfiles included, while nothing is written for longer than the longest pause between two scans; the first audit is
over by then. Beside it the same process without a monitor, which is what an idle event loop takes.
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import Options, Report, exit_with
from support.transcripts_watched import until
from turnlane.transcripts import TranscriptMonitor, Transcripts

FILES, EDITS, IDLE = 10_000, 1_000, 130.0
QUICK_FILES, QUICK_EDITS, QUICK_IDLE = 300, 12, 0.5
LINE = b'{"role":"user","content":"by hand"}\n'


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(LINE)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2)
        file.write(b"%04d" % random.randrange(10_000))


def replace(path: Path) -> None:
    other = path.with_suffix(".swp")
    other.write_bytes(path.read_bytes() + LINE)
    other.replace(path)


KINDS: dict[str, Callable[[Path], None]] = {
    "append": append,
    "same-size edit in place": overwrite,
    "rename over it": replace,
}


async def latencies(monitor: TranscriptMonitor, paths: list[Path], edits: int, seed: int) -> dict[str, list[float]]:
    """Return milliseconds from each edit to its event, by kind."""
    chance, events = random.Random(seed), aiter(monitor)
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number, path in enumerate(chance.sample(paths, edits)):
        await asyncio.sleep(chance.uniform(0.02, 0.06))
        kind = list(KINDS)[number % len(KINDS)]
        began = time.perf_counter()
        KINDS[kind](path)
        async with asyncio.timeout(90):
            while (await anext(events)).path != str(path):
                pass
        took[kind].append((time.perf_counter() - began) * 1000)
    return took


async def idle(seconds: float) -> float:
    """Return the share of a core this process takes while it waits, in percent."""
    began = time.process_time()
    await asyncio.sleep(seconds)
    return (time.process_time() - began) / seconds * 100


async def measured(directory: Path, options: Options, report: Report) -> None:
    files, edits, seconds = (QUICK_FILES, QUICK_EDITS, QUICK_IDLE) if options.quick else (FILES, EDITS, IDLE)
    transcripts = Transcripts(directory)
    for number in range(files):
        await transcripts.append(f"s-{number}", {"role": "user", "content": f"message {number} " * 10})
    without = await idle(min(seconds, 5.0))
    began = time.perf_counter()
    async with TranscriptMonitor(transcripts) as monitor:
        opened = time.perf_counter() - began
        await until(lambda: monitor.statistics().audits > 0)
        alone = await idle(seconds)
        scans = monitor.statistics().scans
        took = await latencies(
            monitor, [directory / f"s-{number}.jsonl" for number in range(files)], edits, options.seed
        )
    everything = sorted(latency for each in took.values() for latency in each)
    report.heading(f"monitor, {files} transcripts: milliseconds from an edit to its event")
    report.row("", "median", "p99", "longest", "edits")
    for kind, each in [*took.items(), ("all", everything)]:
        report.row(kind, *(f"{figure:.1f}" for figure in (median(each), p99(each), max(each))), str(len(each)))
    report.heading("the same, at rest")
    report.row("opening it, seconds", f"{opened:.2f}")
    report.row(f"percent of a core, {seconds:g} s, {scans} scans so far", f"{alone:.2f}")
    report.row("percent of a core without a monitor", f"{without:.2f}")
    report.limit(f"median ms from an edit to its event, {files} files", median(everything), 15.0)
    report.limit(f"p99 ms from an edit to its event, {files} files", p99(everything), 25.0)
    report.limit(f"percent of a core at rest, {files} files", alone, 0.5)


def median(latencies: list[float]) -> float:
    return statistics.median(latencies)


def p99(latencies: list[float]) -> float:
    return sorted(latencies)[min(len(latencies) - 1, len(latencies) * 99 // 100)]


def benchmark(report: Report, options: Options) -> None:
    """Measure how soon it tells, and what it takes at rest."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measured(Path(directory), options, report))


if __name__ == "__main__":
    exit_with(benchmark)
