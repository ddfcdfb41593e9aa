"""The tables transcripts are kept in, and what is read from them and written to them, one statement each.

`transcript` says what is owned, one row for each session: it does for a table what a journal does for a file. `entry`
holds the lines. A deleted transcript keeps its lines under the number of the life it had, a new one begins another.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from turnlane.sqlite import Schema
from turnlane.transcripts.digest import EMPTY, chained
from turnlane.transcripts.record import State
from turnlane.transcripts.rows import Head, Row, Rows, head_in

__all__ = ("SCHEMA", "Key", "Tables", "id_of", "key_of", "storable")

SCHEMA = Schema(
    application_id=0x54_4C_54_52,
    version=1,
    what="transcripts",
    statements=(
        """
        CREATE TABLE transcript (
            session_id TEXT NOT NULL PRIMARY KEY,
            life INTEGER NOT NULL,       -- grows by one when it is deleted
            version INTEGER NOT NULL,    -- grows by one with each owned write
            entries INTEGER NOT NULL,    -- what is owned: as many, so many bytes as JSONL, with that digest
            bytes INTEGER NOT NULL,
            digest BLOB NOT NULL,
            token INTEGER NOT NULL,      -- the highest that has written
            turn TEXT NOT NULL,          -- that wrote last
            unended TEXT NOT NULL,       -- boot of the machine and id of the turn that wrote last and has not ended
            adopted INTEGER NOT NULL,    -- names the adoption it goes back to
            rewritten INTEGER NOT NULL,  -- the version that was no append
            deleted INTEGER NOT NULL,    -- the version that took the transcript away
            present INTEGER NOT NULL     -- 0 from then until it begins again
        ) WITHOUT ROWID
        """,
        # In one tree, in order, so that a transcript is read in one go whatever else is in the file.
        """
        CREATE TABLE entry (
            session_id TEXT NOT NULL,
            life INTEGER NOT NULL DEFAULT 1,
            seq INTEGER NOT NULL,        -- from 1
            line TEXT NOT NULL,          -- one JSON object
            digest BLOB,                 -- chained over all lines up to this one
            turn TEXT,                   -- that wrote it, where turns can be rolled back
            PRIMARY KEY (session_id, life, seq)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE tombstone (
            session_id TEXT NOT NULL,
            life INTEGER NOT NULL,
            deleted_at REAL NOT NULL,    -- seconds since the epoch
            PRIMARY KEY (session_id, life)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE salvage (
            number INTEGER PRIMARY KEY,
            session_id TEXT NOT NULL,
            life INTEGER NOT NULL,
            at REAL NOT NULL,            -- seconds since the epoch
            reason TEXT NOT NULL,
            turn TEXT,
            token INTEGER,
            line TEXT NOT NULL           -- as it would have been stored
        )
        """,
    ),
)

HEAD = """
    SELECT life, version, entries, bytes, digest, token, adopted, rewritten, deleted, present, turn, unended
    FROM transcript WHERE session_id = ?
"""
PUT_HEAD = """
    INSERT OR REPLACE INTO transcript
    (life, version, entries, bytes, digest, token, adopted, rewritten, deleted, present, turn, unended, session_id)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# As a BLOB whatever somebody has stored: bytes that are no UTF-8 are read too.
ROWS = """
    SELECT seq, CAST(line AS BLOB), digest FROM entry WHERE session_id = ? AND life = ? AND seq >= ? ORDER BY seq
"""
ALL_ROWS = "SELECT seq, CAST(line AS BLOB), digest FROM entry WHERE session_id = ? AND life = ? ORDER BY seq"
DIGEST = "SELECT digest FROM entry WHERE session_id = ? AND life = ? AND seq = ?"
PUT_ROW = "INSERT INTO entry (session_id, life, seq, line, digest, turn) VALUES (?, ?, ?, CAST(? AS TEXT), ?, ?)"
CUT_ROWS = "DELETE FROM entry WHERE session_id = ? AND life = ? AND seq > ?"
DROP_ROWS = "DELETE FROM entry WHERE session_id = ? AND life = ?"
WRITTEN = "SELECT seq FROM entry WHERE session_id = ? AND life = ? AND turn = ? ORDER BY seq"
PUT_ENDED = "UPDATE transcript SET unended = '' WHERE session_id = ? AND unended = ?"
DROP_ROW = "DELETE FROM entry WHERE session_id = ? AND life = ? AND seq = ?"
MOVE_ROW = "UPDATE entry SET seq = ?, digest = ? WHERE session_id = ? AND life = ? AND seq = ?"
ANY_ROW = "SELECT 1 FROM entry WHERE session_id = ? AND life = ? LIMIT 1"
# Where the row of a transcript is lost: the life whose lines lie there without a tombstone, else the next one.
LIFE = """
    SELECT coalesce(
        (SELECT max(life) FROM entry WHERE session_id = ?
         AND life NOT IN (SELECT life FROM tombstone WHERE session_id = ?)),
        (SELECT max(life) + 1 FROM tombstone WHERE session_id = ?),
        1)
"""
BURY = "INSERT INTO tombstone (session_id, life, deleted_at) VALUES (?, ?, ?)"

Key = str | bytes
"""A session id as it is stored: text, or bytes where it holds what no text in UTF-8 can."""


def key_of(session_id: str) -> Key:
    """Return what stands for a session id in the tables."""
    try:
        session_id.encode()
    except UnicodeEncodeError:
        return session_id.encode("utf-8", "surrogatepass")
    return session_id


def id_of(key: Key) -> str:
    """Return the session id that something stands for."""
    return key if isinstance(key, str) else key.decode("utf-8", "surrogatepass")


def storable(text: str) -> str:
    """Return a text that UTF-8 can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


class Tables:
    """The tables as one connection sees them, for one session."""

    __slots__ = ("_connection", "key")

    def __init__(self, connection: sqlite3.Connection, key: Key) -> None:
        self._connection = connection
        self.key: Key = key

    def head(self) -> Head | None:
        """Return what is owned; None if there is no row, or one that is none of ours."""
        row = self._one(HEAD, self.key)
        return None if row is None else head_in(row)

    def put_head(self, head: Head) -> None:
        """Say what is owned from now on."""
        state = head.state
        versions = (head.adopted, head.rewritten, head.deleted, int(head.present))
        owned = (head.life, head.version, state.lines, state.length, state.digest, head.token)
        self._connection.execute(PUT_HEAD, (*owned, *versions, storable(head.turn), storable(head.unended), self.key))

    def rows(self, life: int, *, start: int = 1) -> list[Row]:
        """Return the rows from number `start` on."""
        return [_row(found) for found in self._connection.execute(ROWS, (self.key, life, start))]

    def all_rows(self, life: int) -> Rows:
        """Return all rows, also those with numbers nobody gives."""
        return Rows([_row(found) for found in self._connection.execute(ALL_ROWS, (self.key, life))])

    def digest_at(self, life: int, seq: int) -> bytes:
        """Return the digest that is stored with a row; empty bytes where there is none, that of nothing for row 0."""
        found = (EMPTY,) if seq == 0 else self._one(DIGEST, self.key, life, seq)
        return found[0] if found is not None and isinstance(found[0], bytes) else b""

    def has_rows(self, life: int) -> bool:
        """Tell whether there is any."""
        return self._one(ANY_ROW, self.key, life) is not None

    def written_by(self, life: int, turn: str) -> list[int]:
        """Return the numbers of the rows that a turn has written, from 1."""
        found = self._connection.execute(WRITTEN, (self.key, life, storable(turn)))
        return [seq for (seq,) in found if isinstance(seq, int)]

    def put_ended(self, unended: str) -> None:
        """Say that no turn has not ended, if it was this one."""
        self._connection.execute(PUT_ENDED, (self.key, unended))

    def drop_row(self, life: int, seq: int) -> None:
        """Take one row away."""
        self._connection.execute(DROP_ROW, (self.key, life, seq))

    def move_row(self, life: int, seq: int, to: int, digest: bytes) -> None:
        """Give a row another number, which none has, and the digest it has there."""
        self._connection.execute(MOVE_ROW, (to, digest, self.key, life, seq))

    def put_rows(self, life: int, state: State, lines: Sequence[bytes], *, turn: str = "") -> State:
        """Store lines behind some state, with the turn that is to be found by them, and return the state after them."""
        named = storable(turn) or None
        digest, length = state.digest, state.length
        for number, line in enumerate(lines, state.lines + 1):
            digest = chained(digest, (line,))
            length += len(line) + 1
            self._connection.execute(PUT_ROW, (self.key, life, number, line, digest, named))
        return State(length, state.lines + len(lines), digest)

    def cut_rows(self, life: int, count: int) -> None:
        """Take the rows behind the first `count` away."""
        self._connection.execute(CUT_ROWS, (self.key, life, count))

    def replace_rows(self, life: int, lines: Sequence[bytes]) -> State:
        """Store lines in place of all there are, and return their state."""
        self._connection.execute(DROP_ROWS, (self.key, life))
        return self.put_rows(life, State(), lines)

    def bury(self, life: int, *, at: float) -> None:
        """Make what a life holds a tombstone."""
        self._connection.execute(BURY, (self.key, life, at))

    def life(self, head: Head | None = None) -> int:
        """Return the life whose lines are those of the transcript, also where nothing says what is owned."""
        known = head or self.head()
        if known is not None:
            return known.life
        found = self._one(LIFE, self.key, self.key, self.key)
        life = None if found is None else found[0]
        return life if isinstance(life, int) else 1

    def salvaged_life(self) -> int:
        """Return the life words are salvaged for: the one that was deleted, until there is another."""
        head = self.head()
        return self.life(head) if head is None or head.present else head.life - 1

    def _one(self, statement: str, *values: object) -> tuple[object, ...] | None:
        with closing(self._connection.execute(statement, values)) as cursor:
            row: tuple[object, ...] | None = cursor.fetchone()
        return row


def _row(found: tuple[object, ...]) -> Row:
    seq, line, digest = found
    return Row(seq, line if isinstance(line, bytes) else b"", digest)
