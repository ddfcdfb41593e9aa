"""Session entries in one SQLite file: the embedded default, for one machine and any number of processes."""

import math
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TypeVar

from turnlane.sessions._rows import entry_in, is_replaceable, row_of
from turnlane.sessions._sqlite_file import SCHEMA, translated
from turnlane.sessions.base import Change, Reservation, SessionStore
from turnlane.sessions.entry import SessionEntry, minted, rebound
from turnlane.sqlite import ConnectionThread, connect, transaction

__all__ = ("SqliteSessionStore",)

_T = TypeVar("_T")

BY_KEY = """
    SELECT key, id, version, fields, created_at, updated_at, last_activity_at FROM session WHERE key = ?
"""
BY_ID = """
    SELECT key, id, version, fields, created_at, updated_at, last_activity_at FROM session WHERE id = ?
"""
FROM_KEY = """
    SELECT key, id, version, fields, created_at, updated_at, last_activity_at FROM session WHERE key >= ? ORDER BY key
"""
INSERT = """
    INSERT INTO session (key, id, version, fields, created_at, updated_at, last_activity_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
UPDATE = """
    UPDATE session SET id = ?, version = ?, fields = ?, created_at = ?, updated_at = ?, last_activity_at = ?
    WHERE key = ?
"""
TOUCH = "UPDATE session SET last_activity_at = ? WHERE key = ? AND last_activity_at < ?"
DELETE = "DELETE FROM session WHERE key = ?"
FLOOR = "SELECT floor FROM version_floor"
RAISE_FLOOR = """
    UPDATE version_floor
    SET floor = max(floor, coalesce((SELECT cast(version AS INTEGER) FROM session WHERE key = ?), 0))
"""


class SqliteSessionStore(SessionStore):
    """Keeps entries in an SQLite file (journal mode WAL, mode 0600 if it makes it).

    Safe with several processes of one machine on one file, and after any of them was killed at any moment: a
    transaction that had not ended never happened. Reading takes no lock and goes on while another process writes;
    writes of all processes happen one after the other, a few tenths of a millisecond each, and wait in a thread
    for at most `busy_timeout`. Every write is on the disk when it is reported (synchronous FULL), except that a
    power loss may take back the last `touch`es.

    A file that is removed, or replaced, while a process has it open is found before its next call, which goes to the
    file that has the name now.

    Not guaranteed: anything on a network file system (WAL needs shared memory). A connection is not carried
    into a forked child.

    Args:
        path: of the file; relative to the working directory at the first use. Its directory must exist.
        busy_timeout: seconds a call may wait for other writers before `SessionStoreUnavailable`.

    Raises:
        ValueError: the path names no file, or `busy_timeout` is not greater than 0.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0) -> None:
        name = os.fspath(path)
        if not name or name == ":memory:" or "\0" in name:
            raise ValueError(f"an SQLite session store needs the path of a file (memory:// needs none): {name!r}")
        if not (math.isfinite(busy_timeout) and busy_timeout > 0):
            raise ValueError(f"busy_timeout must be greater than 0 seconds, not {busy_timeout!r}")
        self.where: str = f"sqlite:///{name}"
        self._writer = self._thread(name, busy_timeout, read_only=False)
        self._reader = self._thread(name, busy_timeout, read_only=True)

    def __repr__(self) -> str:
        return f"<SqliteSessionStore {self.where} {'open' if self._reader.is_open else 'not open'}>"

    async def open(self) -> None:
        """Open the file, or create it."""
        await self._reader.run("open", "*", lambda _: None)

    async def aclose(self) -> None:
        """Finish what has begun and close the file."""
        try:
            await self._reader.aclose()
        finally:
            await self._writer.aclose()

    async def read(self, key: str) -> SessionEntry | None:
        """Return the entry of `key`."""
        return await self._reader.run("read", key, partial(self._one, BY_KEY, key))

    async def read_by_id(self, session_id: str) -> SessionEntry | None:
        """Return the entry whose session id is `session_id` now."""
        return await self._reader.run("read", session_id, partial(self._one, BY_ID, session_id))

    async def list(self, prefix: str, limit: int) -> tuple[SessionEntry, ...]:
        """Return at most `limit` entries whose key starts with `prefix`, ordered by key."""
        return await self._reader.run("list", f"{prefix}*", partial(self._starting, prefix, limit))

    async def reserve(self, key: str, session_id: str, *, at: float, replaces: SessionEntry | None) -> Reservation:
        """Bind `key` to a new session id unless somebody was faster."""

        def job(connection: sqlite3.Connection) -> Reservation:
            # Who comes second sees so without taking the write lock.
            found = self._one(BY_KEY, key, connection)
            if found is not None and not is_replaceable(found, replaces):
                return Reservation(found, False)
            with transaction(connection):
                return self._reserved(connection, key, session_id, at, replaces)

        return await self._writer.run("reserve", key, job)

    async def mutate(self, key: str, change: Change) -> SessionEntry | None:
        """Store what `change` makes of the fresh entry of `key`, and return it."""

        def job(connection: sqlite3.Connection) -> SessionEntry | None:
            found = self._one(BY_KEY, key, connection)
            if found is None:
                return None
            changed = change(found)
            if changed is not found:
                connection.execute(UPDATE, (*row_of(changed)[1:], key))
            return changed

        return await self._write("change", key, job)

    async def touch(self, key: str, *, at: float) -> None:
        """Set `last_activity_at` to `at` if that is later."""

        def job(connection: sqlite3.Connection) -> None:
            # Once per turn, and all a power loss can do is to make a session look idle for longer: no fsync.
            connection.execute("PRAGMA synchronous = NORMAL")
            try:
                connection.execute(TOUCH, (at, key, at))
            finally:
                connection.execute("PRAGMA synchronous = FULL")

        await self._writer.run("touch", key, job)

    async def delete(self, key: str) -> bool:
        """Remove the entry of `key` and tell whether there was one, also if it can not be read."""

        def job(connection: sqlite3.Connection) -> bool:
            connection.execute(RAISE_FLOOR, (key,))
            return connection.execute(DELETE, (key,)).rowcount > 0

        return await self._write("delete", key, job)

    def _thread(self, path: str, patience: float, *, read_only: bool) -> ConnectionThread:
        return ConnectionThread(
            f"turnlane-sessions-{'read' if read_only else 'write'}",
            partial(connect, path, SCHEMA, read_only=read_only, durability="FULL"),
            patience=patience,
            translated=partial(translated, self.where),
        )

    async def _write(self, operation: str, key: str, job: Callable[[sqlite3.Connection], _T]) -> _T:
        def transacted(connection: sqlite3.Connection) -> _T:
            with transaction(connection):
                return job(connection)

        return await self._writer.run(operation, key, transacted)

    def _reserved(
        self, connection: sqlite3.Connection, key: str, session_id: str, at: float, replaces: SessionEntry | None
    ) -> Reservation:
        found = self._one(BY_KEY, key, connection)
        if found is None:
            floor: tuple[int] = connection.execute(FLOOR).fetchone()
            entry = minted(key, session_id, at=at, version=floor[0] + 1)
            connection.execute(INSERT, row_of(entry))
            return Reservation(entry, True)
        if not is_replaceable(found, replaces):
            return Reservation(found, False)
        entry = rebound(found, session_id, at=at)
        connection.execute(UPDATE, (*row_of(entry)[1:], key))
        return Reservation(entry, True)

    def _one(self, query: str, name: str, connection: sqlite3.Connection) -> SessionEntry | None:
        with closing(connection.execute(query, (name,))) as cursor:
            row: tuple[object, ...] | None = cursor.fetchone()
        return None if row is None else self._entry(row)

    def _starting(self, prefix: str, limit: int, connection: sqlite3.Connection) -> tuple[SessionEntry, ...]:
        found: list[SessionEntry] = []
        with closing(connection.execute(FROM_KEY, (prefix,))) as rows:
            for row in rows:
                if len(found) == limit or not str(row[0]).startswith(prefix):
                    break
                found.append(self._entry(row))
        return tuple(found)

    def _entry(self, row: tuple[object, ...]) -> SessionEntry:
        return entry_in(row, where=self.where)
