"""What it costs to hand one hot key from turn to turn, and to leave its line, beside `asyncio.Lock`.

All benchmarks with their limits: `cd tests && python -m benchmarks`; this one: `python -m benchmarks.handoff`.

Hand-off: all queue up behind a holder; from its end on each enters and leaves at once; the time is divided by their
number. Leaving: the holder stays, and those who wait are cancelled: the last one alone, or all of them in random order.
Both kinds of waiting are measured in turn, round after round; figures are medians of the time of this thread.
"""

import asyncio
import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import Context
from typing import Any

from benchmarks.report import Options, Report, exit_with, new_loop
from turnlane import Enqueue, Lanes

LANE, LOCK = "Lanes.turn()", "asyncio.Lock"
SIZES = (10, 100, 1_000, 10_000)
ROUNDS, HAND_OFFS, LEAVES = 15, 10_000, 50
PATIENT = Enqueue(max_waiting=None)  # with the usual wait_timeout: each waiter has a deadline

Block = Callable[[], AbstractAsyncContextManager[object]]
Line = list["asyncio.Task[None]"]
Figures = dict[str, list[float]]


def blocks() -> dict[str, Block]:
    """Return what makes a block that one task at a time is in, by name."""
    lanes, lock = Lanes(), asyncio.Lock()
    return {LANE: lambda: lanes.turn("hot", policy=PATIENT), LOCK: lambda: lock}


async def enter_and_leave(block: Block) -> None:
    async with block():
        pass


async def queue_up(block: Block, count: int) -> Line:
    """Start tasks that stand in line when this returns; each is a stranger to whoever holds the block now."""
    line = [asyncio.create_task(enter_and_leave(block), context=Context()) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return line


async def end_of(task: "asyncio.Task[None]") -> None:
    with suppress(asyncio.CancelledError):
        await task


async def hand_offs(block: Block, size: int, times: int) -> float:
    """Let `size` tasks through, `times` times; return the nanoseconds of one hand-off."""
    took = 0
    for _ in range(times):
        async with block():
            line = await queue_up(block, size)
            began = time.thread_time_ns()
        await line[-1]
        took += time.thread_time_ns() - began
    return took / (size * times)


async def leaves_of_the_last(block: Block, size: int, times: int) -> float:
    """Cancel the last of `size` waiters, `times` times; return the nanoseconds until it has ended."""
    took: list[int] = []
    async with block():
        line = await queue_up(block, size)
        for _ in range(times):
            last = line[-1]
            began = time.thread_time_ns()
            last.cancel()
            await end_of(last)
            took.append(time.thread_time_ns() - began)
            line[-1:] = await queue_up(block, 1)
    await line[-1]
    return statistics.median(took)


async def leaves_of_all(block: Block, size: int, options: Options) -> float:
    """Cancel all of `size` waiters in random order; return the nanoseconds for each of them."""
    async with block():
        line = await queue_up(block, size)
        options.random.shuffle(line)
        began = time.thread_time_ns()
        for task in line:
            task.cancel()
        await end_of(line[-1])
        return (time.thread_time_ns() - began) / size


def measure(loop: str, options: Options, once: Callable[[Block], Awaitable[float]]) -> dict[str, float]:
    """Measure both kinds of block in turn; return the medians."""

    async def rounds() -> Figures:
        figures: Figures = defaultdict(list)
        order, randomly = list(blocks().items()), options.random
        gc.freeze()  # or each collection looks at all that was imported
        try:
            for _ in range(1 + (3 if options.quick else ROUNDS)):
                randomly.shuffle(order)
                for name, block in order:
                    gc.collect()
                    gc.disable()
                    figures[name].append(await once(block))
                    gc.enable()
        finally:
            gc.enable()
            gc.unfreeze()
        return {name: found[1:] for name, found in figures.items()}

    with asyncio.Runner(loop_factory=lambda: new_loop(loop)) as runner:
        return {name: statistics.median(found) for name, found in runner.run(rounds()).items()}


def compare(
    report: Report, options: Options, loop: str, title: str, once: Callable[[int], Callable[[Block], Any]]
) -> dict[int, dict[str, float]]:
    """Print both kinds at each size; return the figures."""
    report.heading(f"{title}, {loop}")
    report.row("ns each", LANE, LOCK, "ratio")
    found: dict[int, dict[str, float]] = {}
    for size in sizes(options):
        found[size] = figures = measure(loop, options, once(size))
        ratio = figures[LANE] / figures[LOCK]
        report.row(f"{size} waiters", f"{figures[LANE]:.0f}", f"{figures[LOCK]:.0f}", f"{ratio:.2f}")
    return found


def sizes(options: Options) -> tuple[int, ...]:
    return (10, 100) if options.quick else SIZES


def benchmark(report: Report, options: Options) -> None:
    """Measure hand-offs and leaves at each size."""
    *_, few, many = sizes(options)
    for loop in options.loops:
        moved = compare(
            report,
            options,
            loop,
            "hand-off on one hot key",
            lambda size: lambda block: hand_offs(block, size, 1 if options.quick else max(1, HAND_OFFS // size)),
        )
        for size, figures in moved.items():
            report.limit(f"hand-off, {size} waiters: {LANE} / {LOCK}, {loop}", figures[LANE] / figures[LOCK], 1.3)
        report.limit(f"hand-off, {LANE}: {many} / {few} waiters, {loop}", moved[many][LANE] / moved[few][LANE], 1.3)

        left = compare(
            report,
            options,
            loop,
            "the last one in line leaves",
            lambda size: lambda block: leaves_of_the_last(block, size, 3 if options.quick else LEAVES),
        )
        report.limit(f"last one leaves, {LANE}: {many} / {few} waiters, {loop}", left[many][LANE] / left[few][LANE], 2)

        gone = compare(
            report,
            options,
            loop,
            "all are cancelled in random order",
            lambda size: lambda block: leaves_of_all(block, size, options),
        )[many]
        report.limit(f"cancel {many} in random order: {LANE} / {LOCK}, {loop}", gone[LANE] / gone[LOCK], 1 / 3)


if __name__ == "__main__":
    exit_with(benchmark)
