"""A script: a worker of shared lanes that does what it is told, `engine_worker.py URL LEASE [PREPARE]`.

Each line of its input is a JSON object: `do` names a method of `Worker` that is a task from then on, or `go` the task
that is to go on; the rest are its arguments. Each line of its output is one too: `event`, and the facts. Times are
those of the machine's monotonic clock. It ends with its input.
"""

import asyncio
import json
import os
import sys
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

from support.engine_forks import FORKS
from support.engine_visits import Visits
from support.engine_writing import Writing
from turnlane import Enqueue, Lanes, Sessions, Transcripts
from turnlane.clock import Clock
from turnlane.errors import TurnlaneError
from turnlane.hooks import TurnQueued
from turnlane.lanes.shared import SharedGate
from turnlane.lanes.standing import Standing

LOCK_TIMEOUT = 5.0
PATIENT = Enqueue(max_waiting=None, wait_timeout=300)


def report(event: str, **facts: Any) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


def now() -> float:
    return Clock().monotonic()


def lanes_at(url: str, lease: float) -> Lanes:
    """Return lanes with a lease of their own, where there are leases."""
    if url.startswith("redis"):
        from turnlane.engines.redis import RedisEngine

        return Lanes(RedisEngine(url, lease=lease))
    if url.startswith("postgresql"):
        from turnlane.engines.postgresql import PostgresqlEngine

        return Lanes(PostgresqlEngine(url, lease=lease))
    return Lanes(url)


class Worker:
    """Mutable: `_go` (by name, whether a task may go on), `_tasks`, `_transcripts` and `_sessions` (by URL)."""

    def __init__(self, lanes: Lanes, stack: AsyncExitStack) -> None:
        self.lanes = lanes
        self._stack = stack
        self._go: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._tasks: set[asyncio.Task[None]] = set()
        self._transcripts: dict[str, Transcripts] = {}
        self._sessions: dict[str, Sessions] = {}
        lanes.hooks.on(TurnQueued, lambda queued: report("waits", key=queued.key, ahead=queued.ahead))

    def hear(self, line: bytes) -> None:
        facts: dict[str, Any] = json.loads(line)
        if "go" in facts:
            self._go[facts["go"]].set()
            return
        task = asyncio.get_running_loop().create_task(getattr(self, facts.pop("do"))(**facts))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            report("broken", error=repr(task.exception()))

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def transcripts_at(self, url: str) -> Transcripts:
        if url not in self._transcripts:
            self._transcripts[url] = made = Transcripts(url, lock_timeout=LOCK_TIMEOUT)
            self._stack.push_async_callback(made.aclose)
        return self._transcripts[url]

    def sessions_at(self, url: str) -> Sessions:
        if url not in self._sessions:
            self._sessions[url] = made = Sessions(url)
            self._stack.push_async_callback(made.aclose)
        return self._sessions[url]

    # -- what it may be told to do

    async def turn(self, name: str, key: str) -> None:
        """One turn, until it is to go on."""
        try:
            async with self.lanes.turn(key, policy=PATIENT) as turn:
                report("runs", name=name, token=turn.token, at=now())
                try:
                    await self._go[name].wait()
                except asyncio.CancelledError:
                    report("cancelled", name=name, lost=turn.lost, at=now())
                    raise
        except TurnlaneError as error:
            report("failed", name=name, error=type(error).__name__, reason=str(error))
        else:
            report("left", name=name)

    async def turns(self, name: str, key: str, count: int, directory: str, after: int = 0) -> None:
        """So many turns of one key at once, each of which shows whether it was alone; `after` so many before."""
        marker, counter, log = (Path(directory, part) for part in ("occupied", "counter", "log"))
        overlaps, tickets = 0, list[tuple[int, Standing]]()

        async def one(number: int) -> None:
            nonlocal overlaps
            async with self.lanes.turn(key, policy=PATIENT) as turn:
                tickets.append((turn.token, cast("SharedGate", self.lanes.gate).standings[turn.id]))
                try:
                    marker.touch(exist_ok=False)
                except FileExistsError:
                    overlaps += 1
                before = int(counter.read_text()) if counter.exists() else 0
                await asyncio.sleep(0)
                with log.open("a") as opened:
                    opened.write(f"{turn.token} {name} {number}\n")
                counter.write_text(str(before + 1))
                marker.unlink(missing_ok=True)

        async with asyncio.TaskGroup() as group:
            for number in range(after, after + count):
                group.create_task(one(number))
        places = [(token, standing.number) for token, standing in tickets]  # a number may be known after the grant
        report("done", name=name, overlaps=overlaps, places=places)

    async def write(self, name: str, key: str, store: str, pause: float, seed: int) -> None:
        """One turn that writes into the transcript of its key again and again, until it is to go on."""
        writing = Writing(self.transcripts_at(store), key, pause=pause, seed=seed)
        try:
            async with self.lanes.turn(key, policy=PATIENT) as turn:
                await writing.begin(turn)
                report("runs", name=name, token=turn.token, at=now())
                await writing.go_on(turn, self._go[name])
        except TurnlaneError as error:
            report("failed", name=name, error=type(error).__name__, reason=str(error))
        report("wrote", name=name, attempts=writing.attempts, ended=writing.ended)

    async def visit(self, name: str, **options: Any) -> None:
        """Turns of many keys, one after the other and side by side, until it is to go on."""
        urls = {what: options.pop(what, "") for what in ("sessions", "transcripts")}
        visits = Visits(
            name,
            self.lanes,
            self._go[name],
            sessions=self.sessions_at(urls["sessions"]) if urls["sessions"] else None,
            transcripts=self.transcripts_at(urls["transcripts"]) if urls["transcripts"] else None,
            **options,
        )
        report("visited", name=name, **await visits.run())

    async def fork(self, name: str, key: str, how: str) -> None:
        """A turn in the middle of which a child is forked; it goes on when that is to."""
        try:
            async with self.lanes.turn(key, policy=PATIENT) as turn:
                report("runs", name=name, token=turn.token, at=now())
                child = await FORKS[how](self.lanes, key)
                report("forked", name=name, child=child)
                await self._go[name].wait()
                report("still", name=name, lost=turn.lost, at=now())
        except TurnlaneError as error:
            report("failed", name=name, error=type(error).__name__, reason=str(error))
        else:
            report("left", name=name)

    async def warm(self, name: str) -> None:
        """Have the engine open."""
        async with self.lanes.turn(f"warm up {name}", policy=PATIENT):
            pass
        report("warm", name=name)


async def main(url: str, lease: str) -> None:
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=1 << 20)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with AsyncExitStack() as stack:
        lanes = await stack.enter_async_context(lanes_at(url, float(lease)))
        worker = Worker(lanes, stack)
        stack.push_async_callback(worker.aclose)
        report("ready", pid=os.getpid())
        while line := await reader.readline():
            worker.hear(line)
    transport.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
