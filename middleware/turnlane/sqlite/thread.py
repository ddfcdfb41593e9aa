"""One SQLite connection and the one thread that uses it."""

import asyncio
import os
import random
import sqlite3
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import TypeVar, cast

from turnlane.clock import Clock
from turnlane.sqlite.reasons import Replaced, is_busy, is_lasting

__all__ = ("ConnectionThread", "Forked", "Translated")

_T = TypeVar("_T")

Translated = Callable[[str, str], AbstractContextManager[None]]
"""Turns what a job raises into errors of the caller's; called with the operation and what it is about."""

FIRST_PAUSE = 0.000_5
LONGEST_PAUSE = 0.01


class Forked(Exception):
    """This process was forked from the one that opened the file."""


class _Held:
    """A connection, the file it was opened to, and the process that opened it."""

    def __init__(self) -> None:
        self.connection: sqlite3.Connection | None = None
        self.pid = os.getpid()
        self._path = ""
        self._file: tuple[int, int] | None = None

    def hold(self, connection: sqlite3.Connection) -> None:
        """Take a connection that was just opened."""
        self.connection = connection
        with closing(connection.execute("PRAGMA database_list")) as cursor:
            self._path = str(cursor.fetchone()[2])
        self._file = _identity(self._path)

    @property
    def is_elsewhere(self) -> bool:
        """Whether its file has lost its name: what is written there, nobody else will ever find."""
        return self.connection is not None and _identity(self._path) != self._file

    def close(self) -> None:
        """Close the connection if it is this process's own."""
        if self.connection is not None and self.pid == os.getpid():
            self.connection.close()
            self.connection = None


class _Kept:
    """Every connection a thread has, where a forked child can not drop it.

    Closing an inherited connection, which forgetting it does too, can delete what the parent still writes to. The
    hook refers to this object for the life of the process, so a child never forgets it.
    """

    def __init__(self) -> None:
        self.all: set[_Held] = set()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.inherited)

    def inherited(self) -> None:
        """Do nothing: being referred to is enough."""

    def add(self) -> _Held:
        """Return a place for a connection of this process."""
        held = _Held()
        self.all.add(held)
        return held

    def close(self, held: _Held) -> None:
        """Close a connection for good."""
        held.close()
        self.all.discard(held)

    def close_all(self) -> None:
        """Close what this process opened and nobody closed."""
        for held in self.all:
            held.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


class ConnectionThread:
    """Runs jobs on one connection, one after the other, in a thread of its own.

    The connection is opened by the first job, and again after an error that lasts, and where the file was removed or
    another one put in its place; a job during which that happens raises `Replaced`. A file that is locked is tried
    again, in the thread, until `patience` seconds after the job was given in; a job that stood behind others that
    long is tried once. Nothing in here belongs to an event loop. A cancelled `run` does not stop a job that has begun.

    Mutable: `_executor` (None until the first job and after `aclose`) and `_held` (made with it, gone with it; the
    connection in it is touched by the thread only), `_kept` (made by the first job).

    Args:
        name: of the thread.
        connect: opens the file, without waiting.
        patience: seconds to try a file that is locked.
        translated: what errors become.
    """

    def __init__(
        self, name: str, connect: Callable[[], sqlite3.Connection], *, patience: float, translated: Translated
    ) -> None:
        self._name = name
        self._connect = connect
        self._patience = patience
        self._translated = translated
        self._monotonic = Clock().monotonic
        self._executor: ThreadPoolExecutor | None = None
        self._held: _Held | None = None
        self._kept: _Kept | None = None

    @property
    def is_open(self) -> bool:
        """Whether a job was run since the last `aclose`."""
        return self._executor is not None

    async def run(self, operation: str, about: str, job: Callable[[sqlite3.Connection], _T]) -> _T:
        """Return what `job` returns; it runs in the thread, again from the start where the file was locked.

        What it raises, `Refused` of opening the file and `Forked` among it, has gone through `translated`.

        Args:
            operation: a verb for errors.
            about: what the operation is about, for errors.
            job: called with the connection; leaves no transaction open.
        """
        with self._translated(operation, about):
            executor, held = self._started()
        deadline = self._monotonic() + self._patience
        work = partial(self._perform, held, operation, about, deadline, job)
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    async def aclose(self) -> None:
        """Run what was given in, close the connection, end the thread. Does nothing in a forked child."""
        executor, held, kept = self._executor, self._held, self._kept
        if executor is None or held is None or kept is None or held.pid != os.getpid():
            return
        self._executor = self._held = None
        try:
            await asyncio.get_running_loop().run_in_executor(executor, kept.close, held)
        finally:
            executor.shutdown(wait=False)

    def _started(self) -> tuple[ThreadPoolExecutor, _Held]:
        executor, held = self._executor, self._held
        if executor is None or held is None:
            executor = self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._name)
            if self._kept is None:
                self._kept = _Kept()
                weakref.finalize(self, self._kept.close_all)
            held = self._held = self._kept.add()
        elif held.pid != os.getpid():
            raise Forked
        return executor, held

    def _perform(
        self, held: _Held, operation: str, about: str, deadline: float, job: Callable[[sqlite3.Connection], _T]
    ) -> _T:
        with self._translated(operation, about):
            pause = FIRST_PAUSE
            while True:
                try:
                    result = job(self._connection(held))
                    if held.is_elsewhere:
                        raise Replaced
                    return result
                except sqlite3.Error as error:
                    if is_lasting(error):
                        held.close()
                    if not is_busy(error) or self._monotonic() >= deadline:
                        raise
                # Random pauses share a contended file more evenly than SQLite's own waiting, which grows to 100 ms.
                threading.Event().wait(random.uniform(0, pause))  # noqa: S311  no secret
                pause = min(2 * pause, LONGEST_PAUSE)

    def _connection(self, held: _Held) -> sqlite3.Connection:
        if held.is_elsewhere:
            held.close()
        if held.connection is None:
            held.hold(self._connect())
        return cast("sqlite3.Connection", held.connection)
