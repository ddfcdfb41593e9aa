"""One opener of one transcript in PostgreSQL."""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar, cast

from turnlane.errors import TranscriptUnavailable
from turnlane.postgresql import Database, PostgresqlError, Transaction, Unsettled
from turnlane.transcripts.contract import Author, Changes, Fence, Keep
from turnlane.transcripts.finding import Finding
from turnlane.transcripts.postgresql_content import NOTHING, Mark, Stamped, Written
from turnlane.transcripts.postgresql_lease import Lease
from turnlane.transcripts.postgresql_owned import OwnedRows
from turnlane.transcripts.postgresql_tables import Write
from turnlane.transcripts.postgresql_traced import TracedRows
from turnlane.transcripts.rows import Loaded, Proof
from turnlane.transcripts.rows_handle import RowsHandle
from turnlane.transcripts.working import to_its_end

__all__ = ("Marks", "PostgresqlHandle", "unavailable")

MOST_MARKS = 1024
REQUEST = "SELECT request FROM {schema}.transcript WHERE session_id = $1 FOR UPDATE"

_T = TypeVar("_T")


class Marks:
    """The marks of the transcripts that were read last; what is forgotten is read again.

    Mutable: `_marks`, oldest first, at most `MOST_MARKS`.
    """

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: OrderedDict[str, Mark] = OrderedDict()

    def get(self, key: str) -> Mark | None:
        """Return the mark of a transcript, if it is known."""
        return self._marks.get(key)

    def put(self, key: str, mark: Mark | None) -> None:
        """Note one; None changes nothing."""
        if mark is not None:
            self._marks.pop(key, None)
            self._marks[key] = mark
            if len(self._marks) > MOST_MARKS:
                self._marks.popitem(last=False)


class PostgresqlHandle(RowsHandle):
    """See `RowsHandle`.

    Mutable: `_doubt`, the owned write of which nobody knows whether it happened.

    Args:
        rows: the transcript in the tables.
        path: names it in errors.
        database: where they are.
        lease: the write lock.
        marks: what is remembered of the rows.
        verify_up_to: bytes up to which `prove(content=True)` compares the content; None for any size, always.
        durable: whether a write is on the disk when it is told; None for what the server is set to.
    """

    def __init__(
        self,
        rows: OwnedRows,
        *,
        path: str,
        database: Database,
        lease: Lease,
        marks: Marks,
        verify_up_to: int | None,
        durable: bool | None,
    ) -> None:
        super().__init__(path, traces=isinstance(rows, TracedRows))
        self._rows = rows
        self._database = database
        self._lease = lease
        self._marks = marks
        self._verify_up_to = verify_up_to
        self._durable = durable
        self._doubt: tuple[Write, Written] | None = None

    async def lock(self, timeout: float) -> None:
        """Take the lease."""
        self._require_usable("lock it")
        try:
            await self._lease.take(timeout)
        except PostgresqlError as error:
            raise unavailable(self.path, "lock it", error) from error

    async def unlock(self) -> None:
        """Give the lease back."""
        if self._pid == os.getpid() and self._loop is asyncio.get_running_loop():
            await to_its_end(asyncio.ensure_future(self._lease.give_back()))

    async def aclose(self) -> None:
        """Give the lease back."""
        if not self._closed:
            self._closed = True
            await self.unlock()

    async def _load(self, author: Author, *, adopt: bool) -> tuple[list[dict[str, Any]], Finding | None]:
        job = partial(self._rows.load, author=author, adopt=adopt)
        stamped = await self._read("open it", partial(job, write=None))
        loaded = self._taken(stamped or cast("Stamped", await self._written("open it", job)))
        return cast("Loaded", loaded).entries, cast("Loaded", loaded).finding

    async def _join(self, author: Author) -> None:
        job = partial(self._rows.join, author=author, bound=self._verify_up_to, mark=self._marks.get(self._rows.key))
        stamped = await self._read("open it", partial(job, write=None))
        self._taken(stamped or cast("Stamped", await self._written("open it", job)))

    async def _prove(self, author: Author, *, content: bool) -> Changes:
        bound = self._verify_up_to if content or self._verify_up_to is None else NOTHING
        mark = self._marks.get(self._rows.key)
        job = partial(self._rows.prove, fence=self._fence, author=author, bound=bound, mark=mark)
        return cast("Proof", self._taken(await self._read("check it", job))).changes

    async def _append(self, lines: tuple[bytes, ...], author: Author) -> None:
        mark = self._marks.get(self._rows.key)
        job = partial(self._rows.append, fence=self._fence, lines=lines, author=author, mark=mark)
        self._moved(await self._written("append to it", job))

    async def _rollback(self, to: Fence, author: Author, keep: Keep) -> tuple[bytes, ...]:
        read = partial(self._rows.behind, fence=self._fence, to=to, author=author)
        lines = await self._read("go back in it", read)
        if lines:
            await keep(lines)
            cut_back = partial(self._rows.cut_back, fence=self._fence, to=to, author=author)
            self._moved(await self._written("go back in it", cut_back))
        return lines

    async def _take_out(self, turn: str, author: Author, keep: Keep) -> tuple[bytes, ...]:
        rows = cast("TracedRows", self._rows)
        lines = await self._read(
            "roll a turn back", partial(rows.written_by, fence=self._fence, turn=turn, author=author)
        )
        if lines:
            await keep(lines)
        take_out = partial(rows.take_out, fence=self._fence, turn=turn, author=author)
        self._moved(await self._written("roll a turn back", take_out))
        return lines

    async def _delete(self, author: Author, at: float) -> None:
        await self._written("delete it", partial(self._rows.delete, author=author, at=at))

    # -- small things

    def _taken(self, stamped: Stamped) -> Loaded | Proof:
        self._fence = stamped.found.fence
        self._marks.put(self._rows.key, stamped.mark)
        return stamped.found

    def _moved(self, written: Written) -> None:
        self._fence = written.fence
        self._marks.put(self._rows.key, written.mark)

    async def _read(self, operation: str, job: Callable[[Transaction], Awaitable[_T]]) -> _T:
        try:
            return await self._database.read(job)
        except PostgresqlError as error:
            raise unavailable(self.path, operation, error) from error

    async def _written(self, operation: str, job: Callable[..., Awaitable[_T]]) -> _T:
        """Run an owned write, and find out whether it happened where the connection was lost."""
        write = Write()

        async def run(transaction: Transaction) -> _T:
            return await job(transaction, write=write)

        try:
            try:
                return await self._database.write(run, durable=self._durable)
            except Unsettled as unsettled:
                if isinstance(unsettled.result, Written):
                    self._doubt = write, unsettled.result
                happened = await self._has_happened(write, unsettled)
                self._doubt = None
                if happened is None:
                    raise
                if happened:
                    return cast("_T", unsettled.result)
            return await self._database.write(run, durable=self._durable)
        except PostgresqlError as error:
            raise unavailable(self.path, operation, error) from error

    async def _has_happened(self, write: Write, unsettled: Unsettled) -> bool | None:
        """Tell whether a write did; who gets the lock of its row comes after every transaction that had it.

        Returns:
            None where others have written since.

        Raises:
            Unsettled: the server can not be asked.
        """
        try:
            row = await self._database.write(lambda transaction: transaction.row(REQUEST, self._rows.key))
        except PostgresqlError as error:
            raise unsettled from error
        found = None if row is None else row[0]
        return None if found not in (write.request, write.before) else bool(found == write.request)

    async def _settle(self, operation: str) -> None:
        """Move the fence along a write that nobody knew of, if it turns out to have happened.

        Where others have written since, what they have done is proven, or not.
        """
        if self._doubt is not None:
            try:
                await to_its_end(asyncio.ensure_future(self._settled(*self._doubt)))
            except PostgresqlError as error:
                raise unavailable(self.path, operation, error) from error

    async def _settled(self, write: Write, written: Written) -> None:
        if await self._has_happened(write, Unsettled("nobody knows what was written last", written)):
            self._moved(written)
        self._doubt = None


def unavailable(path: str, operation: str, error: PostgresqlError) -> TranscriptUnavailable:
    """Return what an error of the database is to whoever uses a transcript."""
    reason = f"{error.reason}; it may have happened" if isinstance(error, Unsettled) else error.reason
    return TranscriptUnavailable(path, operation=operation, reason=reason)
