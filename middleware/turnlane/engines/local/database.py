"""The database of a directory: opened by several processes at once, written by one at a time without waiting for it."""

import fcntl
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from turnlane.engines.base import SECRET_BYTES
from turnlane.engines.local.rows import SCHEMA
from turnlane.file_systems import network_of
from turnlane.sqlite import Refused, connect, is_busy

__all__ = ("Busy", "Database")

_T = TypeVar("_T")

OPENING_SECONDS = 5.0
PAUSE = 0.005
CHECKPOINT_EVERY = 4000  # transactions, some four megabytes of log


class Busy(Exception):
    """Another connection writes."""


class Database:
    """See the module. `open`, `checkpoint` and what `detach` returns may take their time, and are called in a thread.

    Mutable: `_connection` and its `_cursor`, `_other` (for checkpoints), `_inode` (of the file that was opened),
    `_writes` (since the last checkpoint), `secret` (empty until it is open).

    Args:
        directory: where it is.
        allow_network_fs: whether it may be on a network file system.
    """

    def __init__(self, directory: str, *, allow_network_fs: bool) -> None:
        self.workers: str = os.path.join(directory, "workers")
        self.secret: bytes = b""
        self._directory = directory
        self._path = os.path.join(directory, "lanes.db")
        self._allow_network_fs = allow_network_fs
        self._connection: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None
        self._other: sqlite3.Connection | None = None
        self._checkpoints = threading.Lock()
        self._inode = (0, 0)
        self._writes = 0

    def open(self) -> None:
        """Open it, and make it where there is none.

        Raises:
            Refused: the directory is on a network file system, or the file holds something else, or another process
                has begun to open it and does not go on.
            OSError, sqlite3.Error: it could not be opened.
        """
        for path in (self._directory, self.workers):
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        kind = "" if self._allow_network_fs else network_of(self._directory)
        if kind:
            raise Refused(f"it is on the network file system {kind!r}, where locks can not be relied on")
        # Setting up the log of a database fails at once where several processes do it.
        lock = os.open(os.path.join(self._directory, "opening.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock_within(lock, OPENING_SECONDS)
            connections: list[sqlite3.Connection] = []
            try:
                for _ in range(2):
                    connections.append(connect(self._path, SCHEMA, read_only=False, durability="NORMAL"))
                    connections[-1].execute("PRAGMA wal_autocheckpoint = 0")
            except BaseException:
                for connection in connections:
                    connection.close()
                raise
            self._connection, self._other = connections
            self._cursor = connections[0].cursor()
            self.secret = self._secret_in_file()
            self._inode = self._inode_now()
        finally:
            os.close(lock)

    def _secret_in_file(self) -> bytes:
        """Return what all who may use the directory know; made by the first, under the lock."""
        path = Path(self._directory, "secret")
        found = path.read_bytes() if path.exists() else b""
        if len(found) != SECRET_BYTES:  # a crash may have left less
            found = secrets.token_bytes(SECRET_BYTES)
            path.touch(mode=0o600)
            path.write_bytes(found)
        return found

    def attempt(self, do: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do something in a transaction.

        Raises:
            Busy: another one is on; nothing was done.
            Refused: the file was removed or replaced.
            sqlite3.Error: nothing was done.
        """
        connection = self._connection
        if connection is None:
            raise Refused("it is closed")
        if not self.is_in_place():
            raise Refused("its database was removed or replaced")
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if is_busy(error):
                raise Busy from error
            raise
        try:
            found = do(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._writes += 1
        return found

    def is_in_place(self) -> bool:
        """Tell whether its file has its name still; else others use another one, and what is written to it is lost."""
        return self._inode_now() == self._inode

    def at_once(self, statement: str, values: tuple[object, ...]) -> int:
        """Do one statement that is a transaction by itself; return how many rows it has changed.

        Nothing was done where these are 0; why, `attempt` tells.
        """
        cursor = self._cursor
        if cursor is None:
            return 0
        try:
            cursor.execute(statement, values)
        except sqlite3.Error:
            return 0
        self._writes += 1
        return cursor.rowcount

    @property
    def wants_checkpoint(self) -> bool:
        """Whether the log has become long."""
        return self._writes >= CHECKPOINT_EVERY

    def begin_checkpoint(self) -> None:
        """Count anew: what `checkpoint` does is on its way."""
        self._writes = 0

    def checkpoint(self) -> None:
        """Bring the log back into the file, as far as nobody is in the way."""
        with self._checkpoints:
            if self._other is not None:
                with suppress(sqlite3.Error):
                    self._other.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def detach(self) -> Callable[[], None]:
        """Use it no more from here on; return what closes it."""
        connection, self._connection, self._cursor = self._connection, None, None
        return partial(self._close, connection)

    def _close(self, connection: sqlite3.Connection | None) -> None:
        with self._checkpoints:  # one that is on uses its connection
            other, self._other = self._other, None
            for each in (connection, other):
                if each is not None:
                    with suppress(sqlite3.Error):
                        each.close()

    def _inode_now(self) -> tuple[int, int]:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return 0, 0
        return status.st_dev, status.st_ino


def _lock_within(descriptor: int, seconds: float) -> None:
    """Lock a file; who has it may have been stopped, and no thread is to wait for that without an end."""
    pause = threading.Event()  # that nobody sets
    for _ in range(max(1, round(seconds / PAUSE))):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pause.wait(PAUSE)
        else:
            return
    raise Refused(f"another process has been opening it for {seconds:g} s")
