"""Hand-offs of one hot key between processes: a holder in this one, and those that wait for it in others.

All queue up, one after the other, before the holder leaves. What is done for the first time is done before.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.shared_locks import Blocks, Places, Ticket, blocks_of

__all__ = ("ARRIVALS", "QUEUE_UP", "Crowd", "over_processes")

ARRIVALS, QUEUE_UP = 0.3, 0.6  # seconds in which waiters arrive, and after which all of them wait


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who waits, and how often: of `pg_advisory_lock` fewer, where its server has not so many connections to spare."""

    processes: int
    waiters_of_each: int
    repetitions: int


async def over_processes(name: str, where: Places, crowd: Crowd) -> list[tuple[float, list[int]]]:
    """Return the microseconds of one hand-off between processes, and the numbers, by token, of each repetition."""
    count, waiters = crowd.processes, crowd.waiters_of_each
    async with AsyncExitStack() as stack:
        blocks = await stack.enter_async_context(blocks_of(name, where))
        if blocks.room is not None:
            waiters = max(1, min(waiters, await blocks.room() // count))
        processes = await asyncio.gather(*(_started(name, where, waiters) for _ in range(count)))
        found = [await _over(processes, blocks, waiters) for _ in range(1 + crowd.repetitions)]
        for process in processes:
            await process.communicate(b"")
    return found[1:]


async def _over(
    processes: Sequence[asyncio.subprocess.Process], blocks: Blocks, waiters: int
) -> tuple[float, list[int]]:
    async with blocks.make():
        for number, process in enumerate(processes):
            assert process.stdin is not None
            process.stdin.write(b"%d %d\n" % (number, len(processes)))
        await asyncio.sleep(QUEUE_UP)
        began = time.monotonic()
    said = [json.loads(await _line_of(process)) for process in processes]
    tickets: list[tuple[int, int]] = sorted((token, number) for each in said for token, number in each["tickets"])
    took = max(each["ended"] for each in said) - began
    return took / (waiters * len(processes)) * 1e6, [number for _, number in tickets]


async def _started(name: str, where: Places, waiters: int) -> asyncio.subprocess.Process:
    """Return one of the processes, which is ready."""
    arguments = ["-m", "benchmarks.hand_off_processes", name, json.dumps(asdict(where)), str(waiters)]
    pipe = asyncio.subprocess.PIPE
    place = str(Path(__file__).parents[1])
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=place, stdin=pipe, stdout=pipe)
    await _line_of(process)
    return process


async def _line_of(process: asyncio.subprocess.Process) -> bytes:
    """Return what one of the processes says next.

    Raises:
        RuntimeError: it has ended instead.
    """
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"a part of the benchmark has ended with {await process.wait()}")
    return line


async def part(name: str, where: Places, waiters: int) -> None:
    """Be one of the processes, of which the parent tells which, as often as it does."""
    tickets: list[Ticket] = []

    async def one(blocks: Blocks, arrived: int, all_waiters: int) -> None:
        await asyncio.sleep(ARRIVALS * arrived / all_waiters)
        async with blocks.make() as entered:
            ticket = blocks.ticket(entered)
            if ticket is not None:
                tickets.append(ticket)

    async with blocks_of(name, where) as blocks:
        async with blocks.make():
            pass  # it is open, and has connected
        print(flush=True)
        while told := await asyncio.to_thread(sys.stdin.readline):
            tickets.clear()
            number, count = map(int, told.split())
            await asyncio.gather(*(one(blocks, count * turn + number, count * waiters) for turn in range(waiters)))
            ended = time.monotonic()
            print(json.dumps({"ended": ended, "tickets": [(each.token, each.number) for each in tickets]}), flush=True)


if __name__ == "__main__":
    asyncio.run(part(sys.argv[1], Places(**json.loads(sys.argv[2])), int(sys.argv[3])))
