"""The SQLite file of a session store: its schema, and what its errors become."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from turnlane.errors import NotConfigured, SessionCorrupt, SessionStoreUnavailable, TurnlaneError
from turnlane.sqlite import Forked, Refused, Schema, is_corrupt, reason_of

__all__ = ("SCHEMA", "translated")

SCHEMA = Schema(
    application_id=0x54_4C_53_45,
    version=1,
    what="sessions",
    statements=(
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
    ),
)


@contextmanager
def translated(where: str, operation: str, key: str) -> Generator[None, None, None]:
    """Turn what SQLite and the file system raise into the errors of this package."""
    try:
        yield
    except Forked:
        raise NotConfigured(
            f"session store {where} was opened before this process was forked; "
            "make the Sessions object, or use it for the first time, after the fork"
        ) from None
    except Refused as refused:
        raise SessionStoreUnavailable("*", where=where, operation="open", reason=str(refused)) from None
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, TurnlaneError):
            raise
        if isinstance(error, sqlite3.Error) and is_corrupt(error):
            raise SessionCorrupt(key, where=where, reason=str(error)) from error
        raise SessionStoreUnavailable(key, where=where, operation=operation, reason=reason_of(error)) from error
