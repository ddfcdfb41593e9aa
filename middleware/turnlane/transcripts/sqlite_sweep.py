"""Removing deleted transcripts from a database for good, in transactions so short that others go on."""

import sqlite3
from contextlib import closing
from functools import partial

from turnlane.sqlite import ConnectionThread, transaction
from turnlane.transcripts.sqlite_tables import Key

__all__ = ("sweep",)

AT_ONCE = 500

OLD = "SELECT session_id, life FROM tombstone WHERE deleted_at < ? ORDER BY deleted_at"
SOME_ROWS = """
    DELETE FROM entry WHERE session_id = :id AND life = :life AND seq IN
    (SELECT seq FROM entry WHERE session_id = :id AND life = :life LIMIT :count)
"""
TOMBSTONE = "DELETE FROM tombstone WHERE session_id = ? AND life = ?"
# What was salvaged for a transcript that has no tombstone any more. What was salvaged later is kept until it is as old.
FORGOTTEN = """
    DELETE FROM salvage WHERE at < :before
    AND life < (SELECT life FROM transcript WHERE transcript.session_id = salvage.session_id)
    AND NOT EXISTS (SELECT 1 FROM tombstone
                    WHERE tombstone.session_id = salvage.session_id AND tombstone.life = salvage.life)
"""


async def sweep(writer: ConnectionThread, before: float, *, where: str) -> int:
    """Remove the tombstones of before a moment, in seconds since the epoch; return how many this call has removed.

    Cut off in the middle it leaves a tombstone with less behind it, which the next sweep removes.

    Raises:
        TranscriptUnavailable: the store could not.
    """
    count = 0
    for key, life in await writer.run("sweep it", where, partial(_old, before=before)):
        while await writer.run("sweep it", where, partial(_remove_some, key=key, life=life)):
            pass
        count += await writer.run("sweep it", where, partial(_remove_tombstone, key=key, life=life))
    await writer.run("sweep it", where, partial(_forget, before=before))
    return count


def _old(connection: sqlite3.Connection, before: float) -> list[tuple[Key, int]]:
    with closing(connection.execute(OLD, (before,))) as cursor:
        rows: list[tuple[Key, int]] = cursor.fetchall()
    return rows


def _remove_some(connection: sqlite3.Connection, key: Key, life: int) -> bool:
    """Remove some of the entries, and tell whether there were so many."""
    return connection.execute(SOME_ROWS, {"id": key, "life": life, "count": AT_ONCE}).rowcount == AT_ONCE


def _remove_tombstone(connection: sqlite3.Connection, key: Key, life: int) -> int:
    return connection.execute(TOMBSTONE, (key, life)).rowcount


def _forget(connection: sqlite3.Connection, before: float) -> None:
    with transaction(connection):
        connection.execute(FORGOTTEN, {"before": before})
