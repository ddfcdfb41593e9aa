"""The SQLite file of a store: creating it, recognising it, transactions on it."""

import os
import sqlite3
import uuid
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

__all__ = ("Durability", "Refused", "Schema", "connect", "snapshot", "transaction")

WAL_SIZE_LIMIT = 8 * 1024 * 1024

Durability = Literal["FULL", "NORMAL"]
"""FULL: a commit is on the disk. NORMAL: a power loss may take the last commits back, the end of this process not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a file holds, and how it is told from other files.

    Attributes:
        application_id: the mark of this kind of file.
        version: of the statements.
        what: is kept in it, as a plural, for errors.
        statements: make it.
        page_size: bytes of a page, which a commit writes at least one of; None for what SQLite takes.
    """

    application_id: int
    version: int
    what: str
    statements: tuple[str, ...]
    page_size: int | None = None


class Refused(Exception):
    """The file must not be used; the text says why."""


def connect(path: str, schema: Schema, *, read_only: bool, durability: Durability) -> sqlite3.Connection:
    """Open the file, create it with mode 0600 if there is none, and make sure that it holds what it should.

    Never waits: a file that is locked raises at once, and the whole can be tried again.

    Raises:
        Refused: it holds something else, or a schema of a newer version.
        sqlite3.Error, OSError: it could not be opened now.
    """
    _create_private(path)
    # The thread that uses it and the one that closes it after a crash of the user's code may differ.
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, schema)
        connection.execute(f"PRAGMA synchronous = {durability}")
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
        _roll_back(connection)
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Generator[None, None, None]:
    """See one state of the file inside the block, whatever is committed meanwhile; inside a transaction, its own."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        _roll_back(connection)


def _roll_back(connection: sqlite3.Connection) -> None:
    # Some errors (disk full among them) have rolled back already.
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _prepare(connection: sqlite3.Connection, schema: Schema) -> None:
    fresh = _is_fresh(connection, schema)
    if fresh and schema.page_size is not None:
        connection.execute(f"PRAGMA page_size = {schema.page_size}")  # of a file that has none yet
    if _first(connection, "PRAGMA journal_mode") != "wal":
        mode = _first(connection, "PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise Refused(f"its file system allows journal mode {mode!r} only, and this store needs WAL")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_SIZE_LIMIT}")
    if fresh:
        with transaction(connection):
            if _is_fresh(connection, schema):
                for statement in schema.statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {schema.application_id}")
                connection.execute(f"PRAGMA user_version = {schema.version}")


def _is_fresh(connection: sqlite3.Connection, schema: Schema) -> bool:
    application_id, version, tables = _identity(connection)
    if application_id == schema.application_id:
        if version > schema.version:
            raise Refused(f"its schema has version {version}, this turnlane knows {schema.version}: upgrade it")
        return False
    if application_id or version or tables:
        raise Refused(f"the database belongs to something else; give {schema.what} a file of their own")
    return True


def _identity(connection: sqlite3.Connection) -> tuple[int, int, int]:
    # Read in one transaction: another process may be creating the schema between two statements.
    with snapshot(connection):
        return (
            int(_first(connection, "PRAGMA application_id")),
            int(_first(connection, "PRAGMA user_version")),
            int(_first(connection, "SELECT count(*) FROM sqlite_master")),
        )


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
