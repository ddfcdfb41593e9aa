"""What keep-alive costs a server while 1,000 streams wait in one line.

All benchmarks with their limits: `cd tests && python -m benchmarks`; this one: `python -m benchmarks.keepalive`.

Real sockets: uvicorn in a process of its own, 1,000 connections from this one, each of them a request that asked for a
stream and stands in line behind one that does not end. All came together, which is the worst case for the pauses of
others. Counted is the processor time of the server's process, over three times `every` with three beats in them, the
first of which begins 1,000 responses. Beside it the same line without keep-alive. While it is measured, a request on
a connection of its own asks again and again for a lane nobody else wants: the longest of its answers is the pause that
a beat of 1,000 makes.
"""

import asyncio
import time
from contextlib import suppress

from benchmarks.keepalive_process import allow_many_sockets
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

    def processor_seconds(self) -> float:
        """Return what the process has used so far."""
        return float(self._process.ask(""))

    async def ask(self, key: bytes) -> asyncio.StreamReader:
        """Send a request for a stream."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = b"POST / HTTP/1.1\r\nhost: x\r\n%s: %s\r\ncontent-length: %d\r\n\r\n" % (HEADER, key, len(BODY))
        writer.write(head + BODY)
        self._writers.append(writer)
        return reader

    async def wait_in_line(self, count: int) -> None:
        """Let so many wait, behind one that holds the lane."""
        await self.ask(b"hot")
        await asyncio.sleep(0.2)  # it must be the first, and nothing tells when it is
        for _ in range(count):
            self._readers.append(asyncio.create_task(self._count(await self.ask(b"hot"))))

    async def _count(self, reader: asyncio.StreamReader) -> None:
        while text := await reader.read(4096):
            self.comments += text.count(b": queued\n")

    async def pauses(self) -> list[float]:
        """Ask again and again until cancelled; the milliseconds each answer took are in the list."""
        took: list[float] = []
        with suppress(asyncio.CancelledError):
            while True:
                began = time.perf_counter()
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                # Nothing of HTTP: the server's answer is a refusal of its own, as soon as its loop comes round.
                writer.write(b"nonsense\r\n\r\n")
                await reader.read()
                writer.close()
                took.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(0.2)
        return took

    async def aclose(self) -> None:
        """Leave, all at once, and end the process."""
        for task in self._readers:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        if self._readers:
            await asyncio.wait(self._readers)
        self._process.end()


async def measured(waiters: int, after: float, every: float, seconds: float, loop: str) -> tuple[float, int, float]:
    """Return the percent of a core, the comment lines that came, and the longest pause in milliseconds."""
    server = ServerUnderLoad(after, every, loop)
    try:
        await server.wait_in_line(waiters)
        await asyncio.sleep(min(after, 3.0) / 2)  # until all that was sent to it has been taken in
        before = server.processor_seconds()
        asking = asyncio.create_task(server.pauses())
        await asyncio.sleep(seconds)
        used = server.processor_seconds() - before
        asking.cancel()
        return used / seconds * 100, server.comments, max(await asking)
    finally:
        await server.aclose()


def benchmark(report: Report, options: Options) -> None:
    """Measure a line of streams without keep-alive and with it."""
    allow_many_sockets()
    quick = options.quick
    waiters, after, every = (QUICK_WAITERS, QUICK_AFTER, QUICK_EVERY) if quick else (WAITERS, AFTER, EVERY)
    for loop in options.loops:
        report.heading(f"keepalive, {loop}: {waiters} streams in one line, after={after:g} every={every:g}")
        report.row("", "% of a core", "lines sent", "longest ms")
        without = asyncio.run(measured(waiters, 1.0, 0.0, every, loop))
        report.row("no keep-alive", *shown(without))
        # The last beat comes `after` and two times `every` after arrival: the window ends behind it.
        found = asyncio.run(measured(waiters, after, every, BEATS * every, loop))
        report.row("keep-alive", *shown(found))
        report.limit(f"percent of a core, {waiters} streams kept alive, {loop}", found[0], 5.0)


def shown(figures: tuple[float, int, float]) -> tuple[str, str, str]:
    percent, lines, longest = figures
    return f"{percent:.2f}", str(lines), f"{longest:.1f}"


if __name__ == "__main__":
    exit_with(benchmark)
