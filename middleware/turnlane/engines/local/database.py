"""The database of a directory: opened by several processes at once, written by one at a time without waiting for it."""

import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from turnlane.engines.local.rows import SCHEMA
from turnlane.file_systems import network_of
from turnlane.sqlite import Refused, connect, is_busy

__all__ = ("Busy", "Database")

_T = TypeVar("_T")

CHECKPOINT_EVERY = 4000  # transactions, some four megabytes of log


class Busy(Exception):
    """Another connection writes."""


class Database:
    """See the module. `open`, `close` and `checkpoint` may take their time, and are called in a thread.

    Mutable: `_connection`, `_other` (for checkpoints), `_inode` (of the file that was opened), `_writes` (since the
    last checkpoint), `wants_checkpoint`.

    Args:
        directory: where it is.
        allow_network_fs: whether it may be on a network file system.
    """

    def __init__(self, directory: str, *, allow_network_fs: bool) -> None:
        self.workers: str = os.path.join(directory, "workers")
        self.wants_checkpoint: bool = False
        self._directory = directory
        self._path = os.path.join(directory, "lanes.db")
        self._allow_network_fs = allow_network_fs
        self._connection: sqlite3.Connection | None = None
        self._other: sqlite3.Connection | None = None
        self._inode = (0, 0)
        self._writes = 0

    def open(self) -> None:
        """Open it, and make it where there is none.

        Raises:
            Refused: the directory is on a network file system, or the file holds something else.
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
            fcntl.flock(lock, fcntl.LOCK_EX)
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
            self._inode = self._inode_now()
        finally:
            os.close(lock)

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
        if self._inode_now() != self._inode:
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
        if self._writes >= CHECKPOINT_EVERY:
            self._writes, self.wants_checkpoint = 0, True
        return found

    def checkpoint(self) -> None:
        """Bring the log back into the file, as far as nobody is in the way."""
        if self._other is not None:
            with suppress(sqlite3.Error):
                self._other.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Let go of it."""
        connections, self._connection, self._other = (self._connection, self._other), None, None
        for connection in connections:
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()

    def _inode_now(self) -> tuple[int, int]:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return 0, 0
        return status.st_dev, status.st_ino
