"""What a lane adds to a turn of each framework, beside what the framework takes for it.

With the frameworks that are installed: `cd tests && python -m benchmarks.integrations`.

A turn: a new conversation of an agent whose scripted model answers at once, with whatever the framework stores on disk;
without us, and with the integration and lanes in this process. Both are measured in turn, round after round in a new
random order; figures are medians over the rounds.
"""

import asyncio
import gc
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import Options, Report, exit_with
from support.rigs import RIGS, Place, Rig, ScriptedModel, rig_of, why_not

ROUNDS, TURNS = 10, 20


@dataclass(slots=True)
class Figures:
    """Microseconds of a turn, round by round: time that passed, and that of the processor."""

    passed: list[float] = field(default_factory=list[float])
    worked: list[float] = field(default_factory=list[float])


async def turns(rig: Rig, names: "count[int]", many: int) -> tuple[float, float]:
    """Return the microseconds of one turn, and those of the processor in this process."""
    gc.collect()
    gc.disable()
    began, worked = time.perf_counter(), time.process_time()
    for _ in range(many):
        await rig.answer(f"c{next(names)}", "hello")
    took, worked = time.perf_counter() - began, time.process_time() - worked
    gc.enable()
    return took / many * 1e6, worked / many * 1e6


def place_in(directory: str, name: str, lanes: str | None) -> Place:
    """Make a directory for an agent."""
    Path(directory, name).mkdir()
    return Place(directory=str(Path(directory, name)), lanes=lanes)


async def measured(name: str, options: Options) -> tuple[Figures, Figures]:
    """Return the figures without lanes, and with them."""
    rounds, many, names = (1, 2, count()) if options.quick else (ROUNDS, TURNS, count())
    found = (Figures(), Figures())
    async with AsyncExitStack() as stack:
        stack.callback(gc.enable)
        directory = stack.enter_context(TemporaryDirectory())
        places = (place_in(directory, "alone", None), place_in(directory, "with", "memory://"))
        rigs = [await stack.enter_async_context(rig_of(name, place, ScriptedModel())) for place in places]
        for rig in rigs:
            await turns(rig, names, 2)
        for _ in range(rounds):
            for which in options.random.sample(range(2), 2):
                passed, worked = await turns(rigs[which], names, many)
                found[which].passed.append(passed)
                found[which].worked.append(worked)
    return found


def benchmark(report: Report, options: Options) -> None:
    """Measure each framework that is installed."""
    report.heading("a turn of each framework, microseconds; `processor` in this process")
    report.row("", "alone", "with lanes", "added", "processor", "added")
    for name in RIGS:
        reason = why_not(name)
        if reason is not None:
            report.row(name, reason)
            continue
        alone, laned = asyncio.run(measured(name, options))
        cells = [f"{middle(each):.0f}" for each in (alone.passed, laned.passed)]
        cells.append(f"{middle(laned.passed) / middle(alone.passed) - 1:+.1%}")
        cells.append(f"{middle(alone.worked):.0f}")
        cells.append(f"{middle(laned.worked) / middle(alone.worked) - 1:+.1%}")
        report.row(name, *cells)


def middle(rounds: list[float]) -> float:
    return statistics.median(rounds)


if __name__ == "__main__":
    exit_with(benchmark)
