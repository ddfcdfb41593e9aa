"""Transcripts in PostgreSQL: for any number of processes on any number of machines."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from turnlane.clock import Clock
from turnlane.postgresql import Database, PostgresqlError, Transaction, Unsettled, restored, storable, stored
from turnlane.transcripts.contract import Author, TranscriptStore
from turnlane.transcripts.entries import decoded
from turnlane.transcripts.postgresql_handle import Marks, PostgresqlHandle, unavailable
from turnlane.transcripts.postgresql_lease import Lease
from turnlane.transcripts.postgresql_owned import OwnedRows
from turnlane.transcripts.postgresql_tables import Tables
from turnlane.transcripts.postgresql_traced import TracedRows
from turnlane.transcripts.working import to_its_end

__all__ = ("PostgresqlTranscriptStore",)

_T = TypeVar("_T")

AT_ONCE = 500

LAST = """
    SELECT seq, line FROM {schema}.entry WHERE session_id = $1 AND life = $2 ORDER BY seq DESC LIMIT $3::bigint
"""
SALVAGE = """
    INSERT INTO {schema}.salvage (session_id, life, at, reason, turn, token, request, line)
    SELECT $1, $2, $3, $4, $5, $6, $7, line FROM unnest($8::text[]) WITH ORDINALITY AS given (line, number)
    ORDER BY number
"""
SALVAGED = "SELECT 1 FROM {schema}.salvage WHERE session_id = $1 AND request = $2 LIMIT 1"
PRESENT = "SELECT session_id FROM {schema}.transcript WHERE present"
OLD = "SELECT session_id, life FROM {schema}.tombstone WHERE deleted_at < $1 ORDER BY deleted_at"
SOME_ROWS = """
    DELETE FROM {schema}.entry WHERE session_id = $1 AND life = $2 AND seq IN
    (SELECT seq FROM {schema}.entry WHERE session_id = $1 AND life = $2 LIMIT $3)
"""
TOMBSTONE = "DELETE FROM {schema}.tombstone WHERE session_id = $1 AND life = $2"
# What was salvaged for a transcript that has no tombstone any more. What was salvaged later is kept until it is as old.
FORGOTTEN = """
    DELETE FROM {schema}.salvage WHERE at < $1
    AND life < (SELECT life FROM {schema}.transcript WHERE transcript.session_id = salvage.session_id)
    AND NOT EXISTS (SELECT 1 FROM {schema}.tombstone
                    WHERE tombstone.session_id = salvage.session_id AND tombstone.life = salvage.life)
"""


class PostgresqlTranscriptStore(TranscriptStore):
    """Keeps transcripts in a PostgreSQL database (13 or later), in a schema of its own, one row for each entry.

    Safe with any number of processes and machines on one database, and after any of them was killed at any moment: a
    transaction that had not ended never happened. An append is one transaction, which checks version, content and
    token. Reading takes no lock. The write lock of a transcript, which a turn holds for as long as it works, is a row
    that is renewed; it holds no connection and no transaction. A process that dies, or stands still, lets it go within
    10 seconds; if it then goes on, the version in the transaction refuses what it writes. Nothing is held, and no
    connection taken, during a prompt release. Works through a proxy that gives each transaction another connection.

    A change made by other means (`UPDATE`, `INSERT`, `DELETE` in `entry`) is found as in a file: the server tells which
    transactions have made the rows, and where these are others the content is held against the digests. What says what
    is owned stands in the same database: who changes `transcript` too, as an attacker would, is found by those who have
    the transcript open, and by nobody later.

    A write during whose commit the connection is lost is looked for afterwards, by the random id each owned write
    leaves. Where that can not tell, the error says that it may have happened; what it wanted to store is salvaged, and
    may be there twice then.

    Not guaranteed: that the server has what it has acknowledged after a failover that loses commits. What stays of a
    deleted transcript for ever is one row: its id, its version and its highest token.

    Args:
        url: `postgresql://user:password@host:port/database`; with `?schema=name` the schema is not `turnlane`.
        verify_up_to: bytes of a transcript up to which its content is compared at each prompt release and return, if
            the rows are not known to be the same.
        verify_always: compare it always, and whatever its size.
        sync: whether a write is on the server's disk when it is reported, even if the server is set up otherwise.
        trace_turns: note which turn wrote what, so that a turn can be rolled back.
        timeout: seconds a call may take, connecting and waiting for others included.
        pool_size: most connections of each event loop.
        clock: tells the time.

    Raises:
        ValueError: the URL is none, or a number is out of its range. The URL is not shown: it may hold a password.
    """

    def __init__(
        self,
        url: str,
        *,
        verify_up_to: int = 4 * 1024 * 1024,
        verify_always: bool = False,
        sync: bool = False,
        trace_turns: bool = False,
        timeout: float = 10.0,
        pool_size: int = 5,
        clock: Clock | None = None,
    ) -> None:
        self._database = Database(url, timeout=timeout, pool_size=pool_size)
        self.where: str = self._database.where
        self.traces_turns: bool = trace_turns
        self._verify_up_to = None if verify_always else verify_up_to
        self._durable = True if sync else None
        self._clock = clock if clock is not None else Clock()
        self._marks = Marks()

    def __repr__(self) -> str:
        return f"<PostgresqlTranscriptStore {self.where} {'open' if self._database.is_open else 'not open'}>"

    async def attach(self, session_id: str) -> PostgresqlHandle:
        """Return a handle; the database is connected to when it is first needed."""
        path, key = self._path_of(session_id), stored(session_id)
        lease = Lease(self._database, key, path=path, clock=self._clock)
        rows = TracedRows if self.traces_turns else OwnedRows
        return PostgresqlHandle(
            rows(key, path=path, holder=lease.holder),
            path=path,
            database=self._database,
            lease=lease,
            marks=self._marks,
            verify_up_to=self._verify_up_to,
            durable=self._durable,
        )

    async def read(self, session_id: str, last: int | None) -> tuple[dict[str, Any], ...]:
        """Return the entries that are committed."""
        path, key = self._path_of(session_id), stored(session_id)

        async def job(transaction: Transaction) -> list[tuple[int, str]]:
            tables = Tables(transaction, key)
            rows = await transaction.rows(LAST, key, await tables.life(await tables.head()), last)
            return [(row[0], row[1]) for row in rows]

        entries: list[dict[str, Any]] = []
        for seq, line in reversed(await self._run("read it", path, job)):
            entries += decoded(line.encode(), where=path, first_line=seq)
        return tuple(entries)

    async def exists(self, session_id: str) -> bool:
        """Look for its row."""

        async def job(transaction: Transaction) -> bool:
            return await Tables(transaction, stored(session_id)).head() is not None

        return await self._run("look for it", self._path_of(session_id), job)

    async def end_turn(self, session_id: str, author: Author) -> None:
        """Note it in the row that says what is owned, on the server's disk: what ended stays."""
        if await self.unended(session_id) == storable(author.turn):
            job = partial(self._traced(session_id).end_turn, author=author)
            writing = self._run("note turns", self._path_of(session_id), job, write=True, durable=True)
            await to_its_end(asyncio.ensure_future(writing))

    async def unended(self, session_id: str) -> str | None:
        """Look it up in the row that says what is owned."""
        return await self._run("note turns", self._path_of(session_id), self._traced(session_id).unended)

    async def salvage(self, session_id: str, lines: Sequence[bytes], author: Author, *, reason: str) -> str:
        """Store the lines in the table `salvage`."""
        path, key, request = f"{self.where}#salvage of {session_id}", stored(session_id), uuid.uuid4()
        what = (self._clock.wall(), storable(reason), storable(author.turn) or None, author.token, request)
        texts = [storable(line.decode("utf-8", "backslashreplace")) for line in lines]

        async def job(transaction: Transaction) -> None:
            if await transaction.row(SALVAGED, key, request) is None:
                life = await Tables(transaction, key).salvaged_life()
                await transaction.execute(SALVAGE, key, life, *what, texts)

        await to_its_end(asyncio.ensure_future(self._run("salvage entries", path, job, write=True)))
        return path

    async def list(self) -> tuple[str, ...]:
        """Return the ids in the table `transcript`."""
        rows = await self._run("list it", self.where, lambda transaction: transaction.rows(PRESENT))
        return tuple(sorted(restored(row[0]) for row in rows))

    async def sweep(self, before: float) -> int:
        """Remove what has a tombstone of before that moment, in short transactions.

        Cut off in the middle it leaves a tombstone with less behind it, which the next sweep removes.
        """
        count = 0
        for key, life in await self._swept(OLD, before, rows=True):
            while await self._swept(SOME_ROWS, key, life, AT_ONCE) == AT_ONCE:
                pass
            count += await self._swept(TOMBSTONE, key, life)
        await self._swept(FORGOTTEN, before)
        return count

    async def aclose(self) -> None:
        """Finish what has begun and close the connections."""
        await self._database.aclose()

    async def _swept(self, statement: str, *values: object, rows: bool = False) -> Any:
        async def job(transaction: Transaction) -> object:
            return await (transaction.rows if rows else transaction.execute)(statement, *values)

        return await self._run("sweep it", self.where, job, write=not rows)

    async def _run(
        self,
        operation: str,
        path: str,
        job: Callable[[Transaction], Awaitable[_T]],
        *,
        write: bool = False,
        durable: bool | None = None,
    ) -> _T:
        """Run a job; a write, which must come to the same when it is done twice, again where nobody knows of it."""
        try:
            if not write:
                return await self._database.read(job)
            try:
                return await self._database.write(job, durable=durable or self._durable)
            except Unsettled:
                return await self._database.write(job, durable=durable or self._durable)
        except PostgresqlError as error:
            raise unavailable(path, operation, error) from error

    def _traced(self, session_id: str) -> TracedRows:
        return TracedRows(stored(session_id), path=self._path_of(session_id), holder=uuid.UUID(int=0))

    def _path_of(self, session_id: str) -> str:
        return f"{self.where}#{session_id}"
