"""What somebody with a connection of their own may do to a transcript in a database, whatever it holds by then."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

from turnlane.transcripts.digest import EMPTY, chained

__all__ = ("SQL_EDITS", "edit_by_sql")

PATIENCE = 60.0


class Rows:
    """The rows of one session, inside a transaction."""

    def __init__(self, connection: sqlite3.Connection, session: str, chance: Random) -> None:
        self.connection = connection
        self.session = session
        self.seqs = [seq for (seq,) in connection.execute("SELECT seq FROM entry WHERE session_id = ?", (session,))]
        self.seq = chance.choice(self.seqs)
        self.last = max(self.seqs)
        # Another one each time: what somebody replaces may be what somebody wrote before, and was adopted.
        self.by_hand = f'{{"content":"by hand {chance.getrandbits(64)}"}}'

    def do(self, statement: str, **values: object) -> None:
        """Execute a statement; `:session` is the session, the others have the names of their values."""
        changed = self.connection.execute(statement, {"session": self.session, **values}).rowcount
        assert changed > 0, f"{statement}: nothing was changed"

    def insert(self, seq: object) -> None:
        self.do("INSERT INTO entry (session_id, seq, line) VALUES (:session, :seq, :line)", seq=seq, line=self.by_hand)

    def set(self, what: str, seq: int) -> None:
        self.do(f"UPDATE entry SET {what} WHERE session_id = :session AND seq = :seq", seq=seq)

    def write(self, seq: int) -> None:
        self.do("UPDATE entry SET line = :line WHERE session_id = :session AND seq = :seq", seq=seq, line=self.by_hand)

    def drop(self, which: str, **values: object) -> None:
        self.do(f"DELETE FROM entry WHERE session_id = :session AND {which}", **values)


def swap(rows: Rows) -> None:
    """Two rows take each other's number; each turn has stored two that differ."""
    rows.set("seq = -1", rows.last)
    rows.set("seq = seq + 1", rows.last - 1)
    rows.do("UPDATE entry SET seq = :seq WHERE session_id = :session AND seq = -1", seq=rows.last - 1)


def forge(rows: Rows) -> None:
    """Another first line, all digests right, and the record too."""
    rows.write(min(rows.seqs))
    found = rows.connection.execute(
        "SELECT seq, CAST(line AS BLOB) FROM entry WHERE session_id = ? ORDER BY seq", (rows.session,)
    ).fetchall()
    digest, length = EMPTY, 0
    for seq, line in found:
        digest, length = chained(digest, (line,)), length + len(line) + 1
        rows.do("UPDATE entry SET digest = :digest WHERE session_id = :session AND seq = :seq", digest=digest, seq=seq)
    rows.do(
        "UPDATE transcript SET version = version + 1, digest = :digest, bytes = :bytes, entries = :entries"
        " WHERE session_id = :session",
        digest=digest,
        bytes=length,
        entries=len(found),
    )


def forget(rows: Rows) -> None:
    rows.do("DELETE FROM transcript WHERE session_id = :session")


def forget_all(rows: Rows) -> None:
    forget(rows)
    rows.drop("1")


SQL_EDITS: dict[str, Callable[[Rows], None]] = {
    "a line": lambda rows: rows.write(rows.seq),
    "a blank": lambda rows: rows.set("line = line || ' '", rows.seq),
    "the last line": lambda rows: rows.set("line = replace(line, 'content', 'CONTENT')", rows.last),
    "a row behind": lambda rows: rows.insert(rows.last + 1),
    "a row far behind": lambda rows: rows.insert(rows.last + 50),
    "a row with no number": lambda rows: rows.insert("x"),
    "a row before": lambda rows: rows.insert(0),
    "a row between": lambda rows: rows.insert(rows.seq + 0.5),
    "a row gone": lambda rows: rows.drop("seq = :seq", seq=rows.seq),
    "the last row gone": lambda rows: rows.drop("seq = :seq", seq=rows.last),
    "all rows gone": lambda rows: rows.drop("1"),
    "two rows swapped": swap,
    "a digest": lambda rows: rows.set("digest = x'00'", rows.seq),
    "the record gone": forget,
    "record and rows gone": forget_all,
    "a record of less": lambda rows: rows.do("UPDATE transcript SET entries = entries - 1 WHERE session_id = :session"),
    "a record of nonsense": lambda rows: rows.do("UPDATE transcript SET digest = 'none' WHERE session_id = :session"),
    "a forged history": forge,
}
"""By what is done. Each is found whatever owned writes come before and after it."""


def edit_by_sql(path: Path, session: str, name: str, chance: Random) -> None:
    """Make one of these edits, in one transaction."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=PATIENCE)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        SQL_EDITS[name](Rows(connection, session, chance))
        connection.execute("COMMIT")
