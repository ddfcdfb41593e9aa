"""What a turn and a hand-off cost where lanes are shared, beside the locks people use for that.

All benchmarks with their limits: `cd tests && python -m benchmarks`; this one: `python -m benchmarks.engines`.

A turn: enter and leave, with nobody else. A hand-off: all queue up behind a holder, one after the other, so that those
that poll do not all look at the same moments; the time from its end on is divided by their number. In one process, or
the holder in one and the others in four more; what is done for the first time is done before. All kinds are measured in
turn, round after round in a new random order; figures are medians over the rounds. Redis is a server of this
programme's own.
"""

import asyncio
import gc
import itertools
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from contextvars import Context
from dataclasses import dataclass, field

from benchmarks.hand_off_processes import ARRIVALS, QUEUE_UP, Crowd, over_processes
from benchmarks.report import Options, Report, exit_with
from benchmarks.shared_locks import (
    ADVISORY,
    BARE,
    BARE_FILES,
    FILELOCK,
    FILES,
    KINDS,
    LOCK,
    OURS,
    POSTGRESQL,
    REDIS,
    REDIS_LOCK,
    Blocks,
    Places,
    Ticket,
    blocks_of,
    places,
)
from support.redis_servers import client_of


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is measured; of `pg_advisory_lock` less, where its server has not so many connections to spare."""

    rounds: int
    turns: int
    hand_off_rounds: int
    waiters: int
    process_rounds: int
    between: Crowd


FULL = Counts(20, turns=100, hand_off_rounds=7, waiters=50, process_rounds=3, between=Crowd(4, 13, repetitions=2))
QUICK = Counts(1, turns=10, hand_off_rounds=1, waiters=5, process_rounds=1, between=Crowd(2, 2, repetitions=1))


@dataclass(slots=True)
class Figures:
    """What was measured of one kind: microseconds, each round; and how often who came later had it earlier."""

    turn: list[float] = field(default_factory=list[float])
    here: list[float] = field(default_factory=list[float])
    server: list[float] = field(default_factory=list[float])
    hand_off: list[float] = field(default_factory=list[float])
    between: list[float] = field(default_factory=list[float])
    breaks: int = 0
    granted: int = 0

    def judge(self, numbers: Sequence[int]) -> None:
        """Count the breaks in numbers of places, in the order in which they were granted."""
        waited = [number for number in numbers if number]
        self.granted += len(waited)
        self.breaks += sum(later < earlier for earlier, later in itertools.pairwise(waited))


Found = dict[str, Figures]


async def turns(blocks: Blocks, count: int) -> tuple[float, float]:
    """Return the microseconds of one turn, and those of the processor in this process."""
    gc.collect()
    gc.disable()
    began, worked = time.perf_counter(), time.process_time()
    for _ in range(count):
        async with blocks.make():
            pass
    took, worked = time.perf_counter() - began, time.process_time() - worked
    gc.enable()
    return took / count * 1e6, worked / count * 1e6


async def hand_offs(blocks: Blocks, waiters: int) -> tuple[float, list[int]]:
    """Return the microseconds of one hand-off, and the numbers of those that waited, as they were granted."""
    seen: list[tuple[int, Ticket | None]] = []

    async def one(arrived: int) -> None:
        await asyncio.sleep(ARRIVALS * arrived / waiters)
        async with blocks.make() as entered:
            seen.append((arrived, blocks.ticket(entered)))

    if blocks.room is not None:
        waiters = max(1, min(waiters, await blocks.room()))
    gc.collect()
    gc.disable()
    async with blocks.make():
        line = [asyncio.create_task(one(arrived), context=Context()) for arrived in range(1, waiters + 1)]
        await asyncio.sleep(QUEUE_UP)
        began = time.perf_counter()
    await asyncio.gather(*line)
    took = (time.perf_counter() - began) / waiters * 1e6
    gc.enable()
    if blocks.rest is not None:
        await blocks.rest()
    return took, [arrived if ticket is None else ticket.number for arrived, ticket in seen]


async def in_one_process(where: Places, counts: Counts, options: Options) -> tuple[Found, float]:
    """Measure turns and hand-offs of all kinds; return the commands of a turn in Redis beside them."""
    chance, found = options.random, {name: Figures() for name in (*KINDS, *BARE)}
    async with AsyncExitStack() as stack:
        stack.callback(gc.enable)
        all_blocks = {name: await stack.enter_async_context(blocks_of(name, where)) for name in found}
        server = stack.enter_context(client_of(where.redis))

        def worked() -> float:
            told = server.info("cpu")
            return float(told["used_cpu_user_main_thread"] + told["used_cpu_sys_main_thread"]) * 1e6

        def scripts() -> int:
            return int(server.info("commandstats")["cmdstat_evalsha"]["calls"])

        for blocks in all_blocks.values():
            await turns(blocks, 10)
        for name in KINDS:
            await hand_offs(all_blocks[name], counts.between.processes)
        for _ in range(counts.rounds):
            for name in chance.sample([*found], len(found)):
                before = worked()
                took, here = await turns(all_blocks[name], counts.turns)
                found[name].turn.append(took)
                found[name].here.append(here)
                found[name].server.append((worked() - before) / counts.turns)
        async with all_blocks[REDIS].make():
            before = scripts()
        await turns(all_blocks[REDIS], counts.turns)
        async with all_blocks[REDIS].make():  # what came before has been left by now, and this is not
            commands = (scripts() - before - 2) / counts.turns
        for _ in range(counts.hand_off_rounds):
            for name in chance.sample(KINDS, len(KINDS)):
                took, numbers = await hand_offs(all_blocks[name], counts.waiters)
                found[name].hand_off.append(took)
                found[name].judge(numbers)
    return found, commands


def benchmark(report: Report, options: Options) -> None:
    """Measure all kinds in one run."""
    counts = QUICK if options.quick else FULL
    with places() as where:
        found, commands = asyncio.run(in_one_process(where, counts, options))
        for _ in range(counts.process_rounds):
            for name in options.random.sample(KINDS[1:], len(KINDS) - 1):
                for took, numbers in asyncio.run(over_processes(name, where, counts.between)):
                    found[name].between.append(took)
                    found[name].judge(numbers)
    tell(report, found, counts)
    judge(report, found, commands, counts)


def tell(report: Report, found: Found, counts: Counts) -> None:
    """Print the tables."""
    report.heading("turns and hand-offs of one hot key, microseconds")
    report.row("", "turn", "hand-off", f"{counts.between.processes} processes", "order breaks")
    for name in KINDS:
        figures = found[name]
        cells = [f"{middle(each):.1f}" for each in (figures.turn, figures.hand_off, figures.between)]
        report.row(name, *cells, f"{figures.breaks} / {figures.granted}")
    report.heading("where a turn in Redis goes: microseconds, and those of the two processors' work")
    report.row("", "turn", "here", "server", "x redis-py")
    for name in (*BARE, REDIS, REDIS_LOCK):
        figures = found[name]
        cells = [f"{middle(each):.1f}" for each in (figures.turn, figures.here, figures.server)]
        report.row(name, *cells, f"{middle(figures.turn) / middle(found[REDIS_LOCK].turn):.2f}")


def judge(report: Report, found: Found, commands: float, counts: Counts) -> None:
    """Print the ratios beside their limits."""
    lanes, lock = found[REDIS], found[REDIS_LOCK]
    report.heading("ratios")
    report.limit(f"commands of a turn: {REDIS}", commands, 2)
    report.limit(f"turn: {REDIS} / {REDIS_LOCK}", ratio(lanes.turn, lock.turn), 1.1)
    report.limit(f"hand-off: {REDIS} / {REDIS_LOCK}", ratio(lanes.hand_off, lock.hand_off), 1 / 15)
    over = f"hand-off over {counts.between.processes} processes"
    report.limit(f"{over}: {REDIS} / {REDIS_LOCK}", ratio(lanes.between, lock.between), 1 / 6)
    files, polled = found[FILES], found[FILELOCK]
    report.limit(f"turn: {FILES} / {LOCK}", ratio(files.turn, found[LOCK].turn), 100)
    report.limit(f"hand-off: {FILES} / {FILELOCK}", ratio(files.hand_off, polled.hand_off), 1 / 100)
    report.limit(f"{over}: {FILES} / {FILELOCK}", ratio(files.between, polled.between), 1 / 20)
    bare = found[BARE_FILES]
    fewest = ((bare.hand_off, polled.hand_off), (bare.between, polled.between))
    report.row(f"{BARE_FILES} / {FILELOCK}", "", *(f"{ratio(*pair):.4f}" for pair in fewest))
    for name in OURS:
        report.limit(f"order breaks by ticket: {name}", found[name].breaks, 0)
    rows, advisory = found[POSTGRESQL], found[ADVISORY]
    pairs = ((rows.turn, advisory.turn), (rows.hand_off, advisory.hand_off), (rows.between, advisory.between))
    report.row(f"{POSTGRESQL} / {ADVISORY}", *(f"{ratio(*pair):.2f}" for pair in pairs))


def middle(rounds: Sequence[float]) -> float:
    return statistics.median(rounds) if rounds else float("nan")


def ratio(left: Sequence[float], right: Sequence[float]) -> float:
    return middle(left) / middle(right)


if __name__ == "__main__":
    exit_with(benchmark)
