"""Transcripts in one SQLite file: for one machine and any number of processes."""

import asyncio
import math
import os
import sqlite3
import sys
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any

from turnlane.clock import Clock
from turnlane.errors import TranscriptUnavailable, TurnlaneError
from turnlane.sqlite import ConnectionThread, Forked, Refused, connect, reason_of, snapshot, transaction
from turnlane.transcripts.contract import Author, TranscriptStore
from turnlane.transcripts.entries import decoded
from turnlane.transcripts.files import Files
from turnlane.transcripts.names import stem_of
from turnlane.transcripts.place import boot_of, refuse_network
from turnlane.transcripts.sqlite_handle import SqliteHandle
from turnlane.transcripts.sqlite_lock import LockFile
from turnlane.transcripts.sqlite_marks import Marks
from turnlane.transcripts.sqlite_owned import OwnedRows
from turnlane.transcripts.sqlite_sweep import sweep
from turnlane.transcripts.sqlite_tables import SCHEMA, Key, Tables, id_of, key_of, storable
from turnlane.transcripts.sqlite_traced import TracedRows
from turnlane.transcripts.working import INLINE_BYTES, to_its_end, work

__all__ = ("SqliteTranscriptStore",)

LOCKS_SUFFIX = "-locks"
LOCK_SUFFIX = ".lock"

LAST = """
    SELECT seq, CAST(line AS BLOB) FROM entry WHERE session_id = ? AND life = ? ORDER BY seq DESC LIMIT ?
"""
SALVAGE = """
    INSERT INTO salvage (session_id, life, at, reason, turn, token, line) VALUES (?, ?, ?, ?, ?, ?, CAST(? AS TEXT))
"""
PRESENT = "SELECT session_id FROM transcript WHERE present = 1"


class SqliteTranscriptStore(TranscriptStore):
    """Keeps transcripts in an SQLite file (journal mode WAL, mode 0600 if it makes it), one row for each entry.

    Safe with several processes of one machine on one file, and after any of them was killed at any moment: a
    transaction that had not ended never happened. An append is one transaction. Reading takes no lock; writes of all
    processes to all transcripts of the file happen one after the other, a fraction of a millisecond each, and wait in
    a thread for at most `busy_timeout`. The write lock of a transcript, which a turn holds for as long as it works, is
    no transaction but the kernel's lock on a small file in `<path>-locks/`, so that others go on; were it broken, the
    version in the transaction would still refuse.

    With `sync=False` a commit is in the kernel's hands when it is reported (`synchronous = NORMAL`), which a killed
    process does not undo; a power loss may take the last ones back, all of each, and leaves a file that is whole. With
    `sync=True` it is on the disk (`FULL`).

    A change made by other means (`UPDATE`, `INSERT`, `DELETE` in `entry`) is found as in a file: SQLite tells whether
    another connection has committed at all, and then the content is held against the digests. What says what is owned
    stands in the same file: who changes `transcript` too, as an attacker would, is found by those who have the
    transcript open, and by nobody later.

    A file that is removed, or replaced, while a process has it open is found before its next call, which goes to the
    file that has the name now: who has a transcript open finds its entries gone, or changed.

    Not guaranteed: anything on a network file system, which is refused. On Windows the write lock keeps out the tasks
    of one `Transcripts` object only, and other processes are refused when they write. A connection is not carried into
    a forked child. What stays of a deleted transcript for ever is one row: its id, its version and its highest token.

    Args:
        path: of the file; relative to the working directory at the first use. Its directory must exist.
        verify_up_to: bytes of a transcript up to which its content is compared at each prompt release and return, if
            anybody else has committed anything since.
        verify_always: compare it always, and whatever its size.
        sync: whether a write is on the disk when it is reported.
        allow_network_fs: use a network file system all the same.
        trace_turns: note which turn wrote what, so that a turn can be rolled back.
        busy_timeout: seconds a call may wait for other writers before `TranscriptUnavailable`.
        files: the calls lock files are kept with.
        clock: tells the time.

    Raises:
        ValueError: the path names no file, or `busy_timeout` is not greater than 0.
    """

    # Mutable: _ready, whether the directory of the lock files is there; _marks.

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        verify_up_to: int = 4 * 1024 * 1024,
        verify_always: bool = False,
        sync: bool = False,
        allow_network_fs: bool = False,
        trace_turns: bool = False,
        busy_timeout: float = 5.0,
        files: Files | None = None,
        clock: Clock | None = None,
    ) -> None:
        name = os.fspath(path)
        if not name or name == ":memory:" or "\0" in name:
            raise ValueError(f"transcripts in SQLite need the path of a file: {name!r}")
        if not (math.isfinite(busy_timeout) and busy_timeout > 0):
            raise ValueError(f"busy_timeout must be greater than 0 seconds, not {busy_timeout!r}")
        self.where: str = f"sqlite:///{name}"
        self._place = _Place(name)
        self._verify_up_to = None if verify_always else verify_up_to
        self._allow_network_fs = allow_network_fs
        self.traces_turns: bool = trace_turns
        self._files = files if files is not None else Files()
        self._clock = clock if clock is not None else Clock()
        self._writer = self._thread(busy_timeout, read_only=False, sync=sync)
        self._reader = self._thread(busy_timeout, read_only=True, sync=sync)
        self._marks = Marks()
        self._boot = boot_of().hex() if trace_turns and not sync else ""  # where no commit is lost it does not matter
        self._ready = False

    def __repr__(self) -> str:
        return f"<SqliteTranscriptStore {self.where} {'open' if self._writer.is_open else 'not open'}>"

    async def attach(self, session_id: str) -> SqliteHandle:
        """Return a handle; the file is opened, or made, when it is first needed."""
        path = self._path_of(session_id)
        if not self._ready:
            with translated("open it", path):
                job = partial(self._place.prepare, allow_network_fs=self._allow_network_fs)
                await work(job, size=INLINE_BYTES + 1)
            self._ready = True
        lock = None
        if sys.platform != "win32":
            lock = LockFile(self._files, os.path.join(self._place.locks, stem_of(session_id) + LOCK_SUFFIX))
        return SqliteHandle(
            self._traced(session_id) if self.traces_turns else OwnedRows(key_of(session_id), path=path),
            path=path,
            writer=self._writer,
            reader=self._reader,
            marks=self._marks,
            lock=lock,
            clock=self._clock,
            verify_up_to=self._verify_up_to,
        )

    async def read(self, session_id: str, last: int | None) -> tuple[dict[str, Any], ...]:
        """Return the entries that are committed."""
        path = self._path_of(session_id)
        job = partial(_read, key=key_of(session_id), last=last, where=path)
        return await self._reader.run("read it", path, job)

    async def exists(self, session_id: str) -> bool:
        """Look for its row."""
        job = partial(_exists, key=key_of(session_id))
        return await self._reader.run("look for it", self._path_of(session_id), job)

    async def end_turn(self, session_id: str, author: Author) -> None:
        """Note it in the row that says what is owned."""
        if await self.unended(session_id) == storable(author.turn):
            job = partial(self._traced(session_id).end_turn, author=author)
            await to_its_end(asyncio.ensure_future(self._writer.run("note turns", self._path_of(session_id), job)))

    async def unended(self, session_id: str) -> str | None:
        """Look it up in the row that says what is owned."""
        return await self._reader.run("note turns", self._path_of(session_id), self._traced(session_id).unended)

    def _traced(self, session_id: str) -> TracedRows:
        return TracedRows(key_of(session_id), path=self._path_of(session_id), boot=self._boot)

    async def salvage(self, session_id: str, lines: Sequence[bytes], author: Author, *, reason: str) -> str:
        """Store the lines in the table `salvage`."""
        what = (self._clock.wall(), storable(reason), storable(author.turn) or None, author.token)
        job = partial(_salvage, key=key_of(session_id), what=what, lines=tuple(lines))
        path = f"{self.where}#salvage of {session_id}"
        await to_its_end(asyncio.ensure_future(self._writer.run("salvage entries", path, job)))
        return path

    async def list(self) -> tuple[str, ...]:
        """Return the ids in the table `transcript`."""
        return await self._reader.run("list it", self.where, _ids)

    async def sweep(self, before: float) -> int:
        """Remove what has a tombstone of before that moment, in short transactions."""
        return await sweep(self._writer, before, where=self.where)

    async def aclose(self) -> None:
        """Finish what has begun and close the file."""
        try:
            await self._reader.aclose()
        finally:
            await self._writer.aclose()

    def _path_of(self, session_id: str) -> str:
        return f"{self.where}#{session_id}"

    def _thread(self, patience: float, *, read_only: bool, sync: bool) -> ConnectionThread:
        return ConnectionThread(
            f"turnlane-transcripts-{'read' if read_only else 'write'}",
            partial(self._place.connect, read_only=read_only, sync=sync),
            patience=patience,
            translated=translated,
        )


class _Place:
    """The file without links: all who open it must find the same locks, whatever way they come. Used in threads.

    Mutable: `_path`, empty until the first use.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._path = ""

    @property
    def path(self) -> str:
        """The path of the file, as it was at the first use."""
        self._path = self._path or os.path.realpath(self._name)
        return self._path

    @property
    def locks(self) -> str:
        """The directory of the lock files."""
        return self.path + LOCKS_SUFFIX

    def connect(self, *, read_only: bool, sync: bool) -> sqlite3.Connection:
        """Open the file."""
        return connect(self.path, SCHEMA, read_only=read_only, durability="FULL" if sync else "NORMAL")

    def prepare(self, *, allow_network_fs: bool) -> None:
        """Make the directory of the lock files."""
        directory = os.path.dirname(self.path)
        if not allow_network_fs:
            refuse_network(directory)
        if sys.platform != "win32" and os.path.isdir(directory):
            with suppress(FileExistsError):
                os.mkdir(self.locks, 0o700)


@contextmanager
def translated(operation: str, path: str) -> Generator[None, None, None]:
    """Turn what SQLite and the file system raise into the errors of this package."""
    try:
        yield
    except Forked:
        reason = "it was opened before this process was forked; make the store, or use it first, after the fork"
        raise TranscriptUnavailable(path, operation=operation, reason=reason) from None
    except Refused as refused:
        raise TranscriptUnavailable(path, operation="open it", reason=str(refused)) from None
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, TurnlaneError):
            raise
        raise TranscriptUnavailable(path, operation=operation, reason=reason_of(error)) from error
    except OverflowError as error:  # of a number or a text that SQLite can not hold
        raise TranscriptUnavailable(path, operation=operation, reason=str(error)) from error


# -- what runs in the thread of a connection


def _read(connection: sqlite3.Connection, *, key: Key, last: int | None, where: str) -> tuple[dict[str, Any], ...]:
    with snapshot(connection):
        tables = Tables(connection, key)
        with closing(connection.execute(LAST, (key, tables.life(), -1 if last is None else last))) as cursor:
            rows: list[tuple[object, object]] = cursor.fetchall()
    entries: list[dict[str, Any]] = []
    for seq, line in reversed(rows):
        number = seq if isinstance(seq, int) else len(entries) + 1
        entries += decoded(line if isinstance(line, bytes) else b"", where=where, first_line=number)
    return tuple(entries)


def _exists(connection: sqlite3.Connection, *, key: Key) -> bool:
    with snapshot(connection):
        return Tables(connection, key).head() is not None


def _salvage(
    connection: sqlite3.Connection,
    *,
    key: Key,
    what: tuple[float, str, str | None, int | None],
    lines: tuple[bytes, ...],
) -> None:
    with transaction(connection):
        life = Tables(connection, key).salvaged_life()
        for line in lines:
            connection.execute(SALVAGE, (key, life, *what, line))


def _ids(connection: sqlite3.Connection) -> tuple[str, ...]:
    with closing(connection.execute(PRESENT)) as cursor:
        rows: list[tuple[Key]] = cursor.fetchall()
    return tuple(sorted(id_of(key) for (key,) in rows))
