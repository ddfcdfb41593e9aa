"""What keep-alive costs a server while 1,000 streams wait in one line.

All benchmarks with their limits: `cd tests && python -m benchmarks`; this one: `python -m benchmarks.keepalive`.

Real sockets: uvicorn in a process of its own, 1,000 connections from this one, each of them a request that asked for a
stream and stands in line behind one that does not end. All came together, which is the worst case for the pauses of
others. Counted is the processor time of the server's process over three beats, the first of which begins 1,000
responses, as part of three times `every`. Beside it the same line without keep-alive.

The pause that a beat of 1,000 makes is measured apart, with a line of its own, around the first beat: a connection that
needs no lane asks again as soon as it was answered, which would be most of the processor time where that is counted,
and with a rest in between would miss the beat. Its longest answer is the pause.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from benchmarks.keepalive_process import BEGUN, allow_many_sockets
from benchmarks.peers import HEADER
from benchmarks.report import Options, Report, exit_with
from benchmarks.server import Child

WAITERS, AFTER, EVERY = 1000, 10.0, 15.0
QUICK_WAITERS, QUICK_AFTER, QUICK_EVERY = 10, 0.4, 0.4
BEATS = 3
BODY = b'{"model": "m", "stream": true}'


class ServerUnderLoad:
    """The server's process, and those who wait for it."""

    def __init__(self, after: float, every: float, loop: str) -> None:
        self._process = Child("benchmarks.keepalive_process", str(after), str(every), loop)
        self._port = int(self._process.read())
        self.comments = 0
        self._readers: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._asking: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def processor_seconds(self) -> float:
        """Return what the process has used so far."""
        return float(self._process.ask(""))

    async def wait_in_line(self, count: int) -> None:
        """Let so many wait, behind one that holds the lane; they all do when this returns."""
        await (await self._ask_for_stream()).readuntil(BEGUN)
        for _ in range(count):
            self._readers.append(asyncio.create_task(self._count(await self._ask_for_stream())))
        while await self.waiting() < count:
            pass

    async def waiting(self) -> int:
        """Ask how many stand in line, with a request that needs no lane, on a connection of its own."""
        if self._asking is None:
            self._asking = await asyncio.open_connection("127.0.0.1", self._port)
            self._writers.append(self._asking[1])
        reader, writer = self._asking
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
        return int(await reader.readexactly(int(length)))

    async def longest_answer(self, seconds: float) -> float:
        """Ask again and again for some seconds; return the milliseconds that the longest answer took."""
        longest, began = 0.0, time.perf_counter()
        end = began + seconds
        while began < end:
            await self.waiting()
            answered = time.perf_counter()
            longest, began = max(longest, answered - began), answered
        return longest * 1000

    async def _ask_for_stream(self) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = b"POST / HTTP/1.1\r\nhost: x\r\n%s: hot\r\ncontent-length: %d\r\n\r\n" % (HEADER, len(BODY))
        writer.write(head + BODY)
        self._writers.append(writer)
        return reader

    async def _count(self, reader: asyncio.StreamReader) -> None:
        while text := await reader.read(4096):
            self.comments += text.count(b": queued\n")

    async def aclose(self) -> None:
        """Leave, all at once, and end the process."""
        for task in self._readers:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        if self._readers:
            await asyncio.wait(self._readers)
        self._process.end()


@asynccontextmanager
async def line_of(waiters: int, after: float, every: float, loop: str) -> AsyncGenerator[ServerUnderLoad, None]:
    server = ServerUnderLoad(after, every, loop)
    try:
        await server.wait_in_line(waiters)
        yield server
    finally:
        await server.aclose()


async def measured(
    waiters: int, after: float, every: float, loop: str, *, seconds: float, share_of: float
) -> tuple[float, int, float]:
    """Return the percent of a core, the comment lines that came, and the longest pause in milliseconds.

    Args:
        waiters: how many wait.
        after: seconds until the first beat.
        every: seconds from beat to beat; 0 for no keep-alive.
        loop: the server's event loop.
        seconds: for which the processor time is counted.
        share_of: seconds that the processor time is told as a part of.
    """
    async with line_of(waiters, after, every, loop) as server:
        before = server.processor_seconds()
        await asyncio.sleep(seconds)
        used, comments = server.processor_seconds() - before, server.comments
    async with line_of(waiters, after, every, loop) as server:
        longest = await server.longest_answer(after + min(every or after, 5.0) / 2)
    return used / share_of * 100, comments, longest


def benchmark(report: Report, options: Options) -> None:
    """Measure a line of streams without keep-alive and with it."""
    allow_many_sockets()
    quick = options.quick
    waiters, after, every = (QUICK_WAITERS, QUICK_AFTER, QUICK_EVERY) if quick else (WAITERS, AFTER, EVERY)
    for loop in options.loops:
        report.heading(f"keepalive, {loop}: {waiters} streams in one line, after={after:g} every={every:g}")
        report.row("", "% of a core", "lines sent", "longest ms")
        without = asyncio.run(measured(waiters, after, 0.0, loop, seconds=every, share_of=every))
        report.row("no keep-alive", *shown(without))
        # The last beat comes `after` and two times `every` after arrival: the window ends half a beat behind it.
        window = after + (BEATS - 0.5) * every
        found = asyncio.run(measured(waiters, after, every, loop, seconds=window, share_of=BEATS * every))
        report.row("keep-alive", *shown(found))
        report.limit(f"percent of a core, {waiters} streams kept alive, {loop}", found[0], 5.0)


def shown(figures: tuple[float, int, float]) -> tuple[str, str, str]:
    percent, lines, longest = figures
    return f"{percent:.2f}", str(lines), f"{longest:.1f}"


if __name__ == "__main__":
    exit_with(benchmark)
