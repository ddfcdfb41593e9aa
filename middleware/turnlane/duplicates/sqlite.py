"""Messages remembered in one SQLite file: for one machine and any number of processes."""

import json
import math
import os
import sqlite3
import uuid
from contextlib import closing
from functools import partial
from typing import Any, TypeGuard, cast, get_args

from turnlane.duplicates._sqlite_file import SCHEMA, translated
from turnlane.duplicates.contract import Answer, Claim, DuplicateStore, MessageRecord, MessageState
from turnlane.duplicates.process import is_gone, this_process
from turnlane.errors import DuplicatesUnavailable, NotConfigured
from turnlane.sqlite import ConnectionThread, connect, transaction

__all__ = ("SqliteDuplicateStore",)

STATES = get_args(MessageState)
COLUMNS = "run, owner, state, fingerprint, stream, expires, status, headers, body"
READ = f"SELECT {COLUMNS} FROM message WHERE message = ?"  # noqa: S608  no value of anybody's
PUT = f"INSERT OR REPLACE INTO message (message, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
BEGIN = "UPDATE message SET state = 'running' WHERE message = ? AND run = ? AND state = 'waiting'"
FINISH = """
    UPDATE message
    SET state = ?, expires = ?, status = ?, headers = ?, body = ?,
        finished = (SELECT coalesce(max(finished), 0) + 1 FROM message)
    WHERE message = ? AND run = ? AND state IN ('waiting', 'running', 'unknown')
"""
FREE = "DELETE FROM message WHERE message = ? AND run = ? AND finished IS NULL"
DROP_EXPIRED = "DELETE FROM message WHERE expires <= ?"
DROP_FIRST = """
    DELETE FROM message WHERE finished <= (
        SELECT finished FROM message WHERE finished IS NOT NULL ORDER BY finished DESC LIMIT 1 OFFSET ?
    )
"""


class SqliteDuplicateStore(DuplicateStore):
    """Keeps messages in an SQLite file (journal mode WAL, mode 0600 if it makes it), with their answers as they are.

    Safe with several processes of one machine on one file, and after any of them was killed at any moment: a
    transaction that had not ended never happened. Each write takes a few tenths of a millisecond and waits in a thread
    for at most `busy_timeout`. That a message has begun to run is on the disk when it is told; a power loss may take
    back the last answers, whose messages are then `unknown`, and those that had not begun.

    A process is told from others by boot, pid namespace, pid and start time. Where the system does not tell these (it
    is not Linux), or in another pid namespace, a process that has ended counts as alive until its records expire.

    A file that is removed, or replaced, while a process has it open is found before its next call, which goes to the
    file that has the name now.

    Not guaranteed: anything on a network file system (WAL needs shared memory). A connection is not carried
    into a forked child.

    Mutable: `_owner`, known once the store is open.

    Args:
        path: of the file; relative to the working directory at the first use. Its directory must exist.
        busy_timeout: seconds a call may wait for other writers before `DuplicatesUnavailable`.

    Raises:
        ValueError: the path names no file, or `busy_timeout` is not greater than 0.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0) -> None:
        name = os.fspath(path)
        if not name or name == ":memory:" or "\0" in name:
            raise ValueError(f"an SQLite duplicate store needs the path of a file (memory:// needs none): {name!r}")
        if not (math.isfinite(busy_timeout) and busy_timeout > 0):
            raise ValueError(f"busy_timeout must be greater than 0 seconds, not {busy_timeout!r}")
        self.where: str = f"sqlite:///{name}"
        self._owner = ""
        self._nonce = uuid.uuid4().hex
        self._writer = self._thread(name, busy_timeout, read_only=False)
        self._reader = self._thread(name, busy_timeout, read_only=True)

    def __repr__(self) -> str:
        return f"<SqliteDuplicateStore {self.where} {'open' if self._reader.is_open else 'not open'}>"

    @property
    def owner(self) -> str:
        """Names this process, and this object in it.

        Raises:
            NotConfigured: the store was never opened.
        """
        if not self._owner:
            raise NotConfigured(f"duplicate store {self.where} is not open")
        return self._owner

    async def open(self) -> None:
        """Open the file, or create it."""
        # In the thread, since it reads files; and not earlier, since the process may be forked before.
        self._owner = await self._reader.run("open", "*", lambda _: f"{this_process()} {self._nonce}")

    async def aclose(self) -> None:
        """Finish what has begun and close the file."""
        try:
            await self._reader.aclose()
        finally:
            await self._writer.aclose()

    async def claim(
        self, message: str, record: MessageRecord, *, replaces: MessageRecord | None = None, anew: bool = False
    ) -> Claim:
        """Store `record` unless the message is known."""
        wanted = None if replaces is None else (replaces.run, replaces.state)

        def stays(found: MessageRecord | None) -> TypeGuard[MessageRecord]:
            return found is not None and not anew and (found.run, found.state) != wanted

        def job(connection: sqlite3.Connection) -> Claim:
            # A duplicate sees that it is one without taking the write lock.
            found = self._record(connection, message)
            if stays(found):
                return Claim(found, False)
            with transaction(connection):
                found = self._record(connection, message)
                if stays(found):
                    return Claim(found, False)
                connection.execute(PUT, (message, *_row(record)))
                return Claim(record, True, found)

        return await self._writer.run("claim", message, job)

    async def read(self, message: str) -> MessageRecord | None:
        """Return the record of a message."""
        return await self._reader.run("read", message, lambda connection: self._record(connection, message))

    async def begin(self, message: str, run: str) -> bool:
        """Turn `waiting` into `running`, on the disk."""

        def job(connection: sqlite3.Connection) -> bool:
            connection.execute("PRAGMA synchronous = FULL")
            try:
                return connection.execute(BEGIN, (message, run)).rowcount > 0
            finally:
                connection.execute("PRAGMA synchronous = NORMAL")

        return await self._writer.run("begin", message, job)

    async def finish(self, message: str, record: MessageRecord, *, at: float, limit: int) -> bool:
        """Store the last state of a run."""

        def job(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                last = (record.state, record.expires, *_columns_of(record.answer), message, record.run)
                stored = connection.execute(FINISH, last).rowcount > 0
                connection.execute(DROP_EXPIRED, (at,))
                connection.execute(DROP_FIRST, (limit,))
                return stored

        return await self._writer.run("finish", message, job)

    async def free(self, message: str, run: str, *, restores: MessageRecord | None = None) -> None:
        """Drop the record of a run that has not finished."""

        def job(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                if connection.execute(FREE, (message, run)).rowcount > 0 and restores is not None:
                    connection.execute(PUT, (message, *_row(restores)))

        await self._writer.run("free", message, job)

    async def is_gone(self, owner: str) -> bool:
        """Tell whether the process of an owner is known to have ended."""
        return await self._reader.run("look for", owner, lambda _: is_gone(owner.partition(" ")[0]))

    def _thread(self, path: str, patience: float, *, read_only: bool) -> ConnectionThread:
        return ConnectionThread(
            f"turnlane-duplicates-{'read' if read_only else 'write'}",
            partial(connect, path, SCHEMA, read_only=read_only, durability="NORMAL"),
            patience=patience,
            translated=partial(translated, self.where),
        )

    def _record(self, connection: sqlite3.Connection, message: str) -> MessageRecord | None:
        with closing(connection.execute(READ, (message,))) as cursor:
            row: tuple[Any, ...] | None = cursor.fetchone()
        if row is None:
            return None
        run, owner, state, fingerprint, stream, expires, *answer = row
        try:
            return MessageRecord(
                run=_text(run),
                owner=_text(owner),
                state=_state(state),
                fingerprint=_text(fingerprint),
                stream=bool(stream),
                expires=float(expires),
                answer=_answer(*answer) if state == "answered" else None,
            )
        except (ValueError, TypeError, RecursionError) as error:
            raise DuplicatesUnavailable(
                where=self.where, operation="read", reason=f"the record of message {message} is damaged: {error}"
            ) from error


def _row(record: MessageRecord) -> tuple[str | float | int | bytes | None, ...]:
    known = (record.run, record.owner, record.state, record.fingerprint, int(record.stream), record.expires)
    return (*known, *_columns_of(record.answer))


def _columns_of(answer: Answer | None) -> tuple[int | None, str | None, bytes | None]:
    if answer is None:
        return None, None, None
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in answer.headers]
    return answer.status, json.dumps(headers), answer.body


def _answer(status: object, headers: object, body: object) -> Answer:
    if not isinstance(status, int) or not isinstance(body, bytes):
        raise ValueError(f"its status is {status!r} and its body of type {type(body).__name__}")
    pairs = cast("list[tuple[str, str]]", json.loads(_text(headers)))
    return Answer(
        status=status,
        headers=tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs),
        body=body,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"it holds {value!r} where text should be")
    return value


def _state(value: object) -> MessageState:
    if value not in STATES:
        raise ValueError(f"its state is {value!r}")
    return cast("MessageState", value)
