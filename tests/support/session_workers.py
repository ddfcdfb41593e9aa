"""Processes that use one session store, each told line by line what to do, and what they leave in it."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, cast

from sessions import process_worker
from sessions.helpers import T0, StepClock
from turnlane.sessions import Session, Sessions

__all__ = ("PROCESSES", "Worker", "all_told", "make_stale", "one_session", "stored", "workers")

PROCESSES = 4


class Worker:
    """A process that does what it is told, line by line, in the store a URL names."""

    def __init__(self, url: str, *stops: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
        command = [sys.executable, process_worker.__file__, url, *stops]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def tell(self, what: str, key: str) -> None:
        stdin = cast("IO[str]", self.process.stdin)
        stdin.write(f"{what} {key}\n")
        stdin.flush()

    def answer(self) -> object:
        line = cast("IO[str]", self.process.stdout).readline()
        assert line, f"the process ended with {self.process.poll()}"
        answer: object = json.loads(line)
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        """End in order, or be killed."""
        cast("IO[str]", self.process.stdin).close()
        try:
            self.process.wait(10)
        finally:
            self.kill()
            cast("IO[str]", self.process.stdout).close()


@contextmanager
def workers(url: str, count: int, *stops: str) -> Generator[list[Worker], None, None]:
    """Start processes that are ready when the block begins and gone when it ends."""
    started: list[Worker] = []
    try:
        for _ in range(count):
            started.append(Worker(url, *stops))  # noqa: PERF401  what was started is ended, also if the next fails
        for worker in started:
            assert worker.answer() == "ready"
        yield started
    finally:
        for worker in started:
            worker.end()


def all_told(told: list[Worker], what: str, key: str) -> list[object]:
    """Give every process the same work at once and wait for all."""
    for worker in told:
        worker.tell(what, key)
    return [worker.answer() for worker in told]


def one_session(answers: list[object]) -> tuple[str, int]:
    """Return the one id that all 100 got, and how many were told that it is new."""
    found = [cast("tuple[str, bool]", session) for answer in answers for session in cast("list[object]", answer)]
    assert len(found) == PROCESSES * 25
    ids = {session_id for session_id, _ in found}
    assert len(ids) == 1, f"{len(ids)} ids for one key"
    return ids.pop(), sum(is_new for _, is_new in found)


def make_stale(url: str, *keys: str) -> list[str]:
    """Store entries whose last activity was years ago; return their ids."""

    async def store() -> list[str]:
        async with Sessions(url, clock=StepClock(T0)) as sessions:
            return [(await sessions.resolve(key)).id for key in keys]

    return asyncio.run(store())


def stored(url: str, key: str) -> Session:
    """Return what the store has of a key."""

    async def read() -> Session:
        async with Sessions(url) as sessions:
            session = await sessions.get(key)
            assert session is not None
            return session

    return asyncio.run(read())
