"""The SQLite file of a session store: creating it, recognising it, and what its errors mean."""

import os
import sqlite3
import uuid
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from types import MappingProxyType

from turnlane.errors import SessionCorrupt, SessionStoreUnavailable, TurnlaneError

__all__ = ("connect", "is_busy", "is_lasting", "transaction", "translated")

APPLICATION_ID = 0x54_4C_53_45
SCHEMA_VERSION = 1
SCHEMA = (
    """
    CREATE TABLE session (
        key TEXT NOT NULL PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        fields TEXT NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        last_activity_at REAL NOT NULL
    )
    """,
    # One row: the highest version an entry had when it was deleted, so that its key never repeats one.
    "CREATE TABLE version_floor (floor INTEGER NOT NULL)",
    "INSERT INTO version_floor (floor) VALUES (0)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
WAL_SIZE_LIMIT = 8 * 1024 * 1024

# The low byte of SQLite's extended error codes.
BUSY_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
LASTING_CODES = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
    }
)
REASONS = MappingProxyType(
    {
        sqlite3.SQLITE_BUSY: "another process kept it locked",
        sqlite3.SQLITE_CANTOPEN: "the file can not be opened",
        sqlite3.SQLITE_FULL: "the disk is full",
        sqlite3.SQLITE_IOERR: "the disk failed",
        sqlite3.SQLITE_LOCKED: "another connection kept it locked",
        sqlite3.SQLITE_NOTADB: "the file is not an SQLite database",
        sqlite3.SQLITE_READONLY: "the file can not be written",
    }
)


def connect(path: str, where: str, *, read_only: bool) -> sqlite3.Connection:
    """Open the file, create it with mode 0600 if there is none, and make sure that it is a session store.

    Never waits: a file that is locked raises at once, and the whole can be tried again.

    Raises:
        SessionStoreUnavailable: it holds something else, or a schema of a newer version.
        sqlite3.Error, OSError: it could not be opened now.
    """
    _create_private(path)
    # The thread that uses it and the one that closes it after a crash of the user's code may differ.
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, where)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA query_only = {int(read_only)}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None, None, None]:
    """Hold the write lock of the file inside the block; undo what it did if it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Some errors (disk full among them) have rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def translated(key: str, *, where: str, operation: str) -> Generator[None, None, None]:
    """Turn what SQLite and the file system raise into the errors of this package."""
    try:
        yield
    except sqlite3.Error as error:
        code = _code(error)
        if code == sqlite3.SQLITE_CORRUPT or "decode to UTF-8" in str(error):
            raise SessionCorrupt(key, where=where, reason=str(error)) from error
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        reason = f"{REASONS.get(code, 'SQLite refused')} ({name}: {error})"
        raise SessionStoreUnavailable(key, where=where, operation=operation, reason=reason) from error
    except OSError as error:
        if isinstance(error, TurnlaneError):
            raise
        reason = f"the file can not be opened ({error.strerror or error})"
        raise SessionStoreUnavailable(key, where=where, operation=operation, reason=reason) from error


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether trying again soon may help."""
    return _code(error) in BUSY_CODES


def is_lasting(error: sqlite3.Error) -> bool:
    """Tell whether only opening the file anew may help."""
    return _code(error) in LASTING_CODES


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _prepare(connection: sqlite3.Connection, where: str) -> None:
    fresh = _is_fresh(connection, where)
    if _first(connection, "PRAGMA journal_mode") != "wal":
        mode = _first(connection, "PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise _refusal(where, f"its file system allows journal mode {mode!r} only, and this store needs WAL")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_SIZE_LIMIT}")
    if fresh:
        with transaction(connection):
            if _is_fresh(connection, where):
                for statement in SCHEMA:
                    connection.execute(statement)


def _is_fresh(connection: sqlite3.Connection, where: str) -> bool:
    application_id, version, tables = _identity(connection)
    if application_id == APPLICATION_ID:
        if version > SCHEMA_VERSION:
            raise _refusal(where, f"its schema has version {version}, this turnlane knows {SCHEMA_VERSION}: upgrade it")
        return False
    if application_id or version or tables:
        raise _refusal(where, "the database belongs to something else; give sessions a file of their own")
    return True


def _identity(connection: sqlite3.Connection) -> tuple[int, int, int]:
    # Read in one transaction: another process may be creating the schema between two statements.
    outermost = not connection.in_transaction
    if outermost:
        connection.execute("BEGIN")
    try:
        return (
            int(_first(connection, "PRAGMA application_id")),
            int(_first(connection, "PRAGMA user_version")),
            int(_first(connection, "SELECT count(*) FROM sqlite_master")),
        )
    finally:
        if outermost and connection.in_transaction:
            connection.execute("ROLLBACK")


def _refusal(where: str, reason: str) -> SessionStoreUnavailable:
    return SessionStoreUnavailable("*", where=where, operation="open", reason=reason)


def _first(connection: sqlite3.Connection, statement: str) -> str | int:
    with closing(connection.execute(statement)) as cursor:
        row: tuple[str | int, ...] = cursor.fetchone()
    return row[0]


def _create_private(path: str) -> None:
    if os.path.lexists(path):
        return
    # Closing any descriptor of a database drops the locks this process has on it. So the file gets its name
    # only when its descriptor is closed again.
    unnamed = f"{path}.{uuid.uuid4().hex}"
    os.close(os.open(unnamed, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with suppress(FileExistsError):
            os.link(unnamed, path)
    finally:
        os.unlink(unnamed)
