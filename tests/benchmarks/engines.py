"""What a turn and a hand-off cost where lanes are shared, beside the locks people use for that.

All benchmarks with their limits: `cd tests && python -m benchmarks`; this one: `python -m benchmarks.engines`.

A turn: enter and leave, with nobody else. A hand-off: all queue up behind a holder, one after the other, so that those
that poll do not all look at the same moments; the time from its end on is divided by their number. In one process, or
the holder in one and the others in four more. All kinds are measured in turn, round after round in a new random order;
figures are medians over the rounds. Redis is a server of this programme's own.
"""

import asyncio
import gc
import itertools
import json
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from contextvars import Context
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.report import Options, Report, exit_with
from benchmarks.shared_locks import (
    ADVISORY,
    BARE,
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

ARRIVALS, QUEUE_UP = 0.3, 0.6  # seconds in which waiters arrive, and after which all of them wait


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is measured; of `pg_advisory_lock` less, where its server has not so many connections to spare."""

    rounds: int
    turns: int
    hand_off_rounds: int
    waiters: int
    process_rounds: int
    processes: int
    waiters_of_each: int


FULL = Counts(rounds=20, turns=100, hand_off_rounds=5, waiters=50, process_rounds=3, processes=4, waiters_of_each=13)
QUICK = Counts(rounds=1, turns=10, hand_off_rounds=1, waiters=5, process_rounds=1, processes=2, waiters_of_each=2)


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
    async with blocks.make():
        line = [asyncio.create_task(one(arrived), context=Context()) for arrived in range(1, waiters + 1)]
        await asyncio.sleep(QUEUE_UP)
        began = time.perf_counter()
    await asyncio.gather(*line)
    took = (time.perf_counter() - began) / waiters * 1e6
    if blocks.rest is not None:
        await blocks.rest()
    return took, [arrived if ticket is None else ticket.number for arrived, ticket in seen]


async def over_processes(name: str, where: Places, count: int, waiters: int) -> tuple[float, list[int]]:
    """Return the microseconds of one hand-off between processes, and the numbers, by token."""
    async with AsyncExitStack() as stack:
        blocks = await stack.enter_async_context(blocks_of(name, where))
        if blocks.room is not None:
            waiters = max(1, min(waiters, await blocks.room() // count))
        processes = await asyncio.gather(*(_started(name, where, waiters) for _ in range(count)))
        async with blocks.make():
            for number, process in enumerate(processes):
                assert process.stdin is not None
                process.stdin.write(b"%d %d\n" % (number, count))
            await asyncio.sleep(QUEUE_UP)
            began = time.monotonic()
        said = [json.loads((await process.communicate())[0]) for process in processes]
    tickets: list[tuple[int, int]] = sorted((token, number) for each in said for token, number in each["tickets"])
    took = max(each["ended"] for each in said) - began
    return took / (waiters * count) * 1e6, [number for _, number in tickets]


async def _started(name: str, where: Places, waiters: int) -> asyncio.subprocess.Process:
    """Return one of the processes, which is ready."""
    arguments = ["-m", "benchmarks.engines", "--part", name, json.dumps(asdict(where)), str(waiters)]
    pipe = asyncio.subprocess.PIPE
    place = str(Path(__file__).parents[1])
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=place, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    await process.stdout.readline()
    return process


async def part(name: str, where: Places, waiters: int) -> None:
    """Be one of the processes, of which the parent tells which."""
    tickets: list[Ticket] = []

    async def one(blocks: Blocks, arrived: int, all_waiters: int) -> None:
        await asyncio.sleep(ARRIVALS * arrived / all_waiters)
        async with blocks.make() as entered:
            ticket = blocks.ticket(entered)
            if ticket is not None:
                tickets.append(ticket)

    async with blocks_of(name, where) as blocks:
        await turns(blocks, 1)  # it is open, and has connected
        print(flush=True)
        number, count = map(int, (await asyncio.to_thread(sys.stdin.readline)).split())
        await asyncio.gather(*(one(blocks, count * turn + number, count * waiters) for turn in range(waiters)))
        ended = time.monotonic()
        print(json.dumps({"ended": ended, "tickets": [(ticket.token, ticket.number) for ticket in tickets]}))


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
        for _ in range(counts.rounds):
            for name in chance.sample([*found], len(found)):
                before = worked()
                took, here = await turns(all_blocks[name], counts.turns)
                found[name].turn.append(took)
                found[name].here.append(here)
                found[name].server.append((worked() - before) / counts.turns)
        before = scripts()
        await turns(all_blocks[REDIS], counts.turns)
        await all_blocks_left(all_blocks[REDIS])
        commands = (scripts() - before - 1) / counts.turns
        for _ in range(counts.hand_off_rounds):
            for name in chance.sample(KINDS, len(KINDS)):
                took, numbers = await hand_offs(all_blocks[name], counts.waiters)
                found[name].hand_off.append(took)
                found[name].judge(numbers)
    return found, commands


async def all_blocks_left(blocks: Blocks) -> None:
    """Return when the server has been told of the turns before: a step of the same key comes behind them."""
    async with blocks.make():
        pass


def benchmark(report: Report, options: Options) -> None:
    """Measure all kinds in one run."""
    counts = QUICK if options.quick else FULL
    with places() as where:
        found, commands = asyncio.run(in_one_process(where, counts, options))
        for _ in range(counts.process_rounds):
            for name in options.random.sample(KINDS[1:], len(KINDS) - 1):
                took, numbers = asyncio.run(over_processes(name, where, counts.processes, counts.waiters_of_each))
                found[name].between.append(took)
                found[name].judge(numbers)
    tell(report, found, counts)
    judge(report, found, commands, counts)


def tell(report: Report, found: Found, counts: Counts) -> None:
    """Print the tables."""
    report.heading("turns and hand-offs of one hot key, microseconds")
    report.row("", "turn", "hand-off", f"{counts.processes} processes", "order breaks")
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
    over = f"hand-off over {counts.processes} processes"
    report.limit(f"{over}: {REDIS} / {REDIS_LOCK}", ratio(lanes.between, lock.between), 1 / 6)
    files, polled = found[FILES], found[FILELOCK]
    report.limit(f"turn: {FILES} / {LOCK}", ratio(files.turn, found[LOCK].turn), 100)
    report.limit(f"hand-off: {FILES} / {FILELOCK}", ratio(files.hand_off, polled.hand_off), 1 / 100)
    report.limit(f"{over}: {FILES} / {FILELOCK}", ratio(files.between, polled.between), 1 / 20)
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
    if sys.argv[1:2] == ["--part"]:
        asyncio.run(part(sys.argv[2], Places(**json.loads(sys.argv[3])), int(sys.argv[4])))
    else:
        exit_with(benchmark)
