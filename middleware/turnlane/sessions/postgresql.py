"""Session entries in PostgreSQL: for any number of processes on any number of machines."""

import uuid
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar, cast

from turnlane.errors import NotConfigured, SessionOutcomeUnknown, SessionStoreUnavailable
from turnlane.postgresql import Database, Forked, PostgresqlError, Row, Transaction, Unsettled, restored, stored
from turnlane.sessions._rows import entry_in, is_replaceable, row_of
from turnlane.sessions.base import Change, Reservation, SessionStore
from turnlane.sessions.entry import SessionEntry, minted, rebound

__all__ = ("PostgresqlSessionStore",)

_T = TypeVar("_T")

BY_KEY = """
    SELECT key, id, version, fields, created_at, updated_at, last_activity_at FROM {schema}.session WHERE key = $1
"""
BY_ID = """
    SELECT key, id, version, fields, created_at, updated_at, last_activity_at FROM {schema}.session WHERE id = $1
"""
FROM_KEY = """
    SELECT key, id, version, fields, created_at, updated_at, last_activity_at FROM {schema}.session
    WHERE key >= $1 AND starts_with(key, $1) AND ($2::text IS NULL OR key < $2) ORDER BY key LIMIT $3
"""
LOCKED = """
    SELECT key, id, version, fields, created_at, updated_at, last_activity_at FROM {schema}.session
    WHERE key = $1 FOR UPDATE
"""
REQUEST = "SELECT version, request FROM {schema}.session WHERE key = $1 FOR UPDATE"
# A key that is being deleted in another transaction is waited for here. What that has raised the floor to is seen only
# by a statement that begins after it.
INSERT = """
    INSERT INTO {schema}.session (key, id, version, fields, created_at, updated_at, last_activity_at, request)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (key) DO NOTHING
"""
ABOVE_FLOOR = """
    UPDATE {schema}.session SET version = floor + 1 FROM {schema}.session_floor WHERE key = $1 RETURNING version
"""
UPDATE = """
    UPDATE {schema}.session SET id = $2, version = $3, fields = $4, created_at = $5, updated_at = $6,
    last_activity_at = $7, request = $8 WHERE key = $1
"""
TOUCH = """
    UPDATE {schema}.session SET last_activity_at = $2 WHERE key = $1 AND last_activity_at < $2
    RETURNING pg_current_xact_id()::text
"""
DELETE = "DELETE FROM {schema}.session WHERE key = $1 RETURNING version, pg_current_xact_id()::text"
RAISE_FLOOR = "UPDATE {schema}.session_floor SET floor = greatest(floor, $1)"
STATUS = "SELECT pg_xact_status($1::text::xid8)"

LAST_CODE_POINT = chr(0x10FFFF)


class _Write:
    """One write, by whatever number of transactions.

    Mutable: `version`, which the last transaction gave the row; None where it has written nothing.
    """

    __slots__ = ("request", "version")

    def __init__(self) -> None:
        self.request: uuid.UUID = uuid.uuid4()
        self.version: int | None = None


class PostgresqlSessionStore(SessionStore):
    """Keeps entries in a PostgreSQL database (13 or later), in the table `session` of a schema of its own.

    Safe with any number of processes and machines on one database, and after any of them was killed at any moment: a
    transaction that had not ended never happened. Reading takes no lock; writes of one key happen one after the other.
    Every write is on the server's disk when it is reported, as far as the server is set up so, except that a crash of
    the server may take back the last `touch`es. Works through a proxy that gives each transaction another connection.

    A write during whose commit the connection is lost is looked for afterwards: by the random id each write leaves in
    its row, and the version, which only grows; what leaves no id, `touch` and `delete`, by what the server knows of its
    transaction. Where that can not tell, because somebody else has written since or the server can not be reached, it
    is `SessionOutcomeUnknown`: the write may have happened.

    A row that is lost is not found again: its key gets a new random id.

    Not guaranteed: that the server has what it has acknowledged after a failover that loses commits. Connections are
    not carried into a forked child.

    Args:
        url: `postgresql://user:password@host:port/database`; with `?schema=name` the schema is not `turnlane`.
        timeout: seconds a call may take, connecting and waiting for others included.
        pool_size: most connections of each event loop.

    Raises:
        ValueError: the URL is none, or a number is out of its range. The URL is not shown: it may hold a password.
    """

    def __init__(self, url: str, *, timeout: float = 10.0, pool_size: int = 5) -> None:
        self._database = Database(url, timeout=timeout, pool_size=pool_size)
        self.where: str = self._database.where

    def __repr__(self) -> str:
        return f"<PostgresqlSessionStore {self.where} {'open' if self._database.is_open else 'not open'}>"

    async def open(self) -> None:
        """Connect, and bring the schema up to date."""
        with self._translated("open", "*"):
            await self._database.open()

    async def aclose(self) -> None:
        """Finish what has begun and close the connections."""
        await self._database.aclose()

    async def read(self, key: str) -> SessionEntry | None:
        """Return the entry of `key`."""
        return await self._one("read", BY_KEY, key)

    async def read_by_id(self, session_id: str) -> SessionEntry | None:
        """Return the entry whose session id is `session_id` now."""
        return await self._one("read", BY_ID, session_id)

    async def list(self, prefix: str, limit: int) -> tuple[SessionEntry, ...]:
        """Return at most `limit` entries whose key starts with `prefix`, ordered by key."""
        start = stored(prefix)
        with self._translated("list", f"{prefix}*"):
            rows = await self._database.read(
                lambda transaction: transaction.rows(FROM_KEY, start, _behind(start), limit)
            )
        return tuple(self._entry(row) for row in rows)

    async def reserve(self, key: str, session_id: str, *, at: float, replaces: SessionEntry | None) -> Reservation:
        """Bind `key` to a new session id unless somebody was faster."""
        with self._translated("reserve", key):
            return await self._written(key, partial(self._reserve, key, session_id, at, replaces))

    async def mutate(self, key: str, change: Change) -> SessionEntry | None:
        """Store what `change` makes of the fresh entry of `key`, and return it."""

        async def job(transaction: Transaction, write: _Write) -> SessionEntry | None:
            row = await transaction.row(LOCKED, stored(key))
            if row is None:
                return None
            found = self._entry(row)
            changed = change(found)
            if changed is not found:
                await transaction.execute(UPDATE, *_columns(key, changed), write.request)
                write.version = changed.version
            return changed

        with self._translated("change", key):
            return await self._written(key, job)

    async def touch(self, key: str, *, at: float) -> None:
        """Set `last_activity_at` to `at` if that is later."""

        async def job(transaction: Transaction) -> str | None:
            touched = await transaction.row(TOUCH, stored(key), at)
            return None if touched is None else cast("str", touched[0])

        with self._translated("touch", key):
            await self._named(key, job, durable=False)

    async def delete(self, key: str) -> bool:
        """Remove the entry of `key` and tell whether there was one, also if it can not be read."""

        async def job(transaction: Transaction) -> str | None:
            gone = await transaction.row(DELETE, stored(key))
            if gone is None:
                return None
            version, name = gone
            await transaction.execute(RAISE_FLOOR, version)
            return cast("str", name)

        with self._translated("delete", key):
            return await self._named(key, job)

    async def _reserve(
        self,
        key: str,
        session_id: str,
        at: float,
        replaces: SessionEntry | None,
        transaction: Transaction,
        write: _Write,
    ) -> Reservation:
        row = await transaction.row(LOCKED, stored(key))
        if row is None:
            entry = minted(key, session_id, at=at, version=0)
            if await transaction.execute(INSERT, *_columns(key, entry), write.request):
                above = await transaction.row(ABOVE_FLOOR, stored(key))
                version: int = above[0] if above is not None else 1
                write.version = version
                return Reservation(minted(key, session_id, at=at, version=version), True)
            row = await transaction.row(LOCKED, stored(key))
            if row is None:  # it was deleted in that very moment
                return await self._reserve(key, session_id, at, replaces, transaction, write)
        found = self._entry(row)
        if not is_replaceable(found, replaces):
            return Reservation(found, False)
        entry = rebound(found, session_id, at=at)
        await transaction.execute(UPDATE, *_columns(key, entry), write.request)
        write.version = entry.version
        return Reservation(entry, True)

    async def _written(self, key: str, job: Callable[[Transaction, _Write], Awaitable[_T]]) -> _T:
        """Run a write, and find out whether it happened where the connection was lost."""
        write = _Write()

        async def anew(transaction: Transaction) -> _T:
            write.version = None
            return await job(transaction, write)

        try:
            return await self._database.write(anew)
        except Unsettled as unsettled:
            result = cast("_T", unsettled.result)
            if write.version is None:
                return result  # there was nothing to commit
            row = await self._outcome(key, unsettled)
            if row is None:
                raise
            version, request = row
            if request == write.request:
                return result
            if version > write.version:
                raise  # somebody else may have written over it, or in its place
        return await self._database.write(anew)  # it did not happen, and its version is another's or nobody's

    async def _named(
        self, key: str, job: Callable[[Transaction], Awaitable[str | None]], *, durable: bool | None = None
    ) -> bool:
        """Run a write that returns the name of its transaction, None if it has written nothing; tell which."""
        try:
            return await self._database.write(job, durable=durable) is not None
        except Unsettled as unsettled:
            name = cast("str | None", unsettled.result)
            if name is None:
                return False
            row = await self._outcome(key, unsettled, of=name)
            if row is None or row[0] not in ("committed", "aborted"):
                raise
        return row[0] == "committed" or await self._database.write(job, durable=durable) is not None

    async def _outcome(self, key: str, unsettled: Unsettled, *, of: str | None = None) -> Row | None:
        """Return what wrote the row of `key`, or how transaction `of` has ended, once none before has its lock."""

        async def job(transaction: Transaction) -> Row | None:
            row = await transaction.row(REQUEST, stored(key))
            return row if of is None else await transaction.row(STATUS, of)

        try:
            return await self._database.write(job)
        except PostgresqlError:
            raise unsettled from None

    async def _one(self, operation: str, query: str, name: str) -> SessionEntry | None:
        with self._translated(operation, name):
            row = await self._database.read(lambda transaction: transaction.row(query, stored(name)))
        return None if row is None else self._entry(row)

    def _entry(self, row: Row) -> SessionEntry:
        key, session_id, *others = row
        return entry_in((restored(key), restored(session_id), *others), where=self.where)

    @contextmanager
    def _translated(self, operation: str, key: str) -> Generator[None, None, None]:
        try:
            yield
        except Forked:
            raise NotConfigured(
                f"session store {self.where} was opened before this process was forked; "
                "make the Sessions object, or use it for the first time, after the fork"
            ) from None
        except Unsettled as error:
            raise SessionOutcomeUnknown(key, where=self.where, operation=operation, reason=error.reason) from error
        except PostgresqlError as error:
            raise SessionStoreUnavailable(key, where=self.where, operation=operation, reason=error.reason) from error


def _columns(key: str, entry: SessionEntry) -> tuple[str | int | float, ...]:
    return (stored(key), stored(entry.id), *row_of(entry)[2:])


def _behind(prefix: str) -> str | None:
    """Return the first text behind all that start with a prefix; None if there is none."""
    prefix = prefix.rstrip(LAST_CODE_POINT)
    if not prefix:
        return None
    after = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if 0xD800 <= after <= 0xDFFF else after)
