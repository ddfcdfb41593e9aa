"""The SQLite file of a duplicate store: its schema, and what its errors become."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from turnlane.errors import DuplicatesUnavailable, NotConfigured
from turnlane.sqlite import Forked, Refused, Schema, reason_of

__all__ = ("SCHEMA", "translated")

SCHEMA = Schema(
    application_id=0x54_4C_44_55,
    version=1,
    what="duplicates",
    statements=(
        # `finished` counts up: who has the lowest number finished first. It is null until then.
        """
        CREATE TABLE message (
            message TEXT NOT NULL PRIMARY KEY,
            run TEXT NOT NULL,
            owner TEXT NOT NULL,
            state TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            stream INTEGER NOT NULL,
            expires REAL NOT NULL,
            finished INTEGER,
            status INTEGER,
            headers TEXT,
            body BLOB
        )
        """,
        "CREATE UNIQUE INDEX message_finished ON message (finished) WHERE finished IS NOT NULL",
        "CREATE INDEX message_expires ON message (expires)",
    ),
)


@contextmanager
def translated(where: str, operation: str, message: str) -> Generator[None, None, None]:
    """Turn what SQLite and the file system raise into the errors of this package."""
    try:
        yield
    except Forked:
        raise NotConfigured(
            f"duplicate store {where} was opened before this process was forked; "
            "make the Duplicates object, or use it for the first time, after the fork"
        ) from None
    except Refused as refused:
        raise DuplicatesUnavailable(where=where, operation="open", reason=str(refused)) from None
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, DuplicatesUnavailable):
            raise
        raise DuplicatesUnavailable(where=where, operation=operation, reason=reason_of(error)) from error
