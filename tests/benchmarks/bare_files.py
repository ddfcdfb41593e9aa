"""What a hand-off in a directory takes at least: the transactions and the datagram of one, with no lanes around them.

Nobody here may be cancelled, die, be refused or wait for less than for ever; there are no turns, tasks or hooks.
"""

import asyncio
import itertools
import secrets
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeVar

from turnlane.engines.base import Granted
from turnlane.engines.lane import Place
from turnlane.engines.local.database import Busy, Database
from turnlane.engines.local.letters import Letters, letter_of, note_in
from turnlane.engines.local.rows import SqliteRows
from turnlane.engines.local.short_ways import GIVE_BACK, TAKE, handed_on

__all__ = ("BareFiles",)

_T = TypeVar("_T")


class BareFiles:
    """One worker of a directory. Mutable: `_waiting`, by ticket.

    Args:
        directory: of the database.
        key: of the lane.
    """

    def __init__(self, directory: str, key: str) -> None:
        self._database = Database(directory, allow_network_fs=False)
        self._key = key
        self._worker = secrets.token_hex(8)
        self._tickets = (f"{self._worker}{number}" for number in itertools.count())
        self._waiting: dict[str, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[Callable[[], AbstractAsyncContextManager[None]]]:
        """Give what makes blocks."""
        await asyncio.to_thread(self._database.open)
        letters = Letters(self._database.workers, self._worker, self._heard)
        await self._written(lambda connection: connection.execute("INSERT INTO worker VALUES (?, 0)", (self._worker,)))
        yield partial(self._block, letters)
        letters.close()
        await asyncio.to_thread(self._database.detach())

    @asynccontextmanager
    async def _block(self, letters: Letters) -> AsyncGenerator[None]:
        ticket = next(self._tickets)
        waits = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        if not await self._written(partial(self._come, ticket)):
            await waits
        del self._waiting[ticket]
        yield
        handed = await self._written(partial(self._leave, ticket))
        if handed is None:
            return
        worker, note = handed
        if worker == self._worker:
            self._waiting[note.ticket].set_result(None)
        else:
            letters.send(worker, letter_of(note), gone=_gone)

    def _come(self, ticket: str, connection: sqlite3.Connection) -> bool:
        """Take the lane or stand in line; tell which."""
        now, token = time.monotonic(), _wall_ns() // 1000
        rows = SqliteRows(connection, self._key, self._worker, now=now, wall_ns=_wall_ns)
        if rows.lane() is None:
            connection.execute(TAKE, (self._key, ticket, self._worker, token, now, token))
            return True
        last = rows.last()
        number = 1 if last is None else last.number + 1
        rows.put(Place(ticket, self._worker, number, number, "", now, now, b""))
        return False

    def _leave(self, ticket: str, connection: sqlite3.Connection) -> tuple[str, Granted] | None:
        """Hand the lane on to who is first, if anybody waits."""
        now = time.monotonic()
        handed = handed_on(connection, self._key, ticket, now=now, wall_ns=_wall_ns)
        if handed is None:
            connection.execute(GIVE_BACK, (self._key, ticket, self._key))
        return handed

    async def _written(self, do: Callable[[sqlite3.Connection], _T]) -> _T:
        while True:
            try:
                return self._database.attempt(do)
            except Busy:
                await asyncio.sleep(0)

    def _heard(self, letter: bytes) -> None:
        note = note_in(letter)
        if isinstance(note, Granted):
            self._waiting[note.ticket].set_result(None)


def _wall_ns() -> int:
    return time.time_ns()


def _gone(worker: str) -> None:
    raise AssertionError(f"worker {worker} reads no letters")
