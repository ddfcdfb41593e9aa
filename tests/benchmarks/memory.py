"""What keys leave behind, and what a held key and a waiter take: bytes, each figure from a fresh process.

All benchmarks with their limits: `cd tests && python -m benchmarks`; this one: `python -m benchmarks.memory`.

Nothing is timed here, so as many processes run at once as there are cores.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import memory_part
from benchmarks.memory_part import Figures
from benchmarks.report import Options, Report, exit_with

KEYS, HELD = 1_000_000, 100_000
LONGEST = 300  # seconds for one process


def figures_of(*wanted: str) -> dict[str, Figures]:
    """Measure some parts in a fresh process."""
    tests = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join([tests, *(part for part in sys.path if part)])
    done = subprocess.run(
        [sys.executable, "-m", memory_part.__name__, *wanted],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=LONGEST,
    )
    figures: dict[str, Figures] = json.loads(done.stdout)
    return figures


def benchmark(report: Report, options: Options) -> None:
    """Measure what is retained of idle keys, of held keys and of waiters."""
    count, of_locks, held = (1_000, 1_000, 200) if options.quick else (KEYS, KEYS // 10, HELD)
    counts = dict.fromkeys(memory_part.PARTS, held) | {"passing_lanes": count, "passing_locks": of_locks}
    wanted = [f"{name}={number}" for name, number in counts.items()]
    found: dict[str, Figures] = {}
    if options.quick:
        found = figures_of(*wanted)
    else:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for figures in threads.map(figures_of, wanted):
                found |= figures
    passing(report, count, found["passing_lanes"], of_locks, found["passing_locks"])
    held_keys(report, held, found)
    waiting(report, held, found)


def passing(report: Report, count: int, lanes: Figures, of_locks: int, locks: Figures) -> None:
    report.heading("keys one after the other, what is retained of them")
    report.row("", "keys", "bytes/key", "entries", "table bytes")
    for title, keys, figures in (("LaneMiddleware", count, lanes), ("defaultdict(asyncio.Lock)", of_locks, locks)):
        cells = (f"{figures['bytes']:.4f}", f"{figures['entries']:.0f}", f"{figures['table']:.0f}")
        report.row(title, f"{keys:,}", *cells)
    report.limit("entries in the tables of the lanes after the last key", lanes["entries"], 0)
    # A few objects of the interpreter itself come and go in so many requests; a key that stays takes a hundred bytes.
    report.limit(f"bytes retained of all {count:,} keys", lanes["bytes"] * count, 10_000)


def held_keys(report: Report, count: int, found: dict[str, Figures]) -> None:
    lane = found["held_lanes"]
    if lane["entries"] != count:
        raise RuntimeError(f"{lane['entries']:.0f} of {count} lanes are held")
    block = found["held_blocks"]["bytes"] - found["held_tasks"]["bytes"]
    request = found["held_requests"]["bytes"] - found["held_noop"]["bytes"]
    report.heading(f"{count:,} held keys, bytes for each beyond the key itself")
    report.row("a lane: turn and table entry", f"{lane['bytes']:.0f}")
    report.row("a locked asyncio.Lock in a defaultdict", f"{found['held_locks']['bytes']:.0f}")
    report.row("async with lanes.turn(): beyond its task", f"{block:.0f}")
    report.row("request in LaneMiddleware: beyond a no-op's", f"{request:.0f}")
    report.limit("bytes of a held key beyond the key", lane["bytes"], 300)


def waiting(report: Report, count: int, found: dict[str, Figures]) -> None:
    task, turn, lock = (found[f"waiting_{part}"]["bytes"] for part in ("tasks", "turns", "locks"))
    report.heading(f"{count:,} waiters on one key, bytes for each")
    report.row("", "bytes", "ratio")
    for title, each in (("a task and a future", task), ("Lanes.turn()", turn), ("asyncio.Lock", lock)):
        report.row(title, f"{each:.0f}", f"{each / task:.2f}")
    report.limit("bytes of a waiter / a task and a future", turn / task, 1.5)


if __name__ == "__main__":
    exit_with(benchmark)
