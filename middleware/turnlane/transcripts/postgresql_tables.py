"""The tables transcripts are kept in, in PostgreSQL, and what is read from them and written to them.

They are those of SQLite (`sqlite_tables`), and what they hold means the same.
"""

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from turnlane.postgresql import Row as Columns
from turnlane.postgresql import Transaction, storable
from turnlane.transcripts.digest import EMPTY, chained
from turnlane.transcripts.record import State
from turnlane.transcripts.rows import Head, Row, Rows, head_in

__all__ = ("Stamp", "Tables", "Write", "state_behind")

HEAD = """
    SELECT life, version, entries, bytes, digest, token, adopted, rewritten, deleted, present::int, turn, unended,
           request
    FROM {schema}.transcript WHERE session_id = $1
"""
LOCKED_HEAD = HEAD + " FOR UPDATE"
# The number of the first rows and the transactions that have made them: who changes one, adds one in between or takes
# one away changes it.
STAMPED_HEAD = """
    SELECT life, version, entries, bytes, digest, token, adopted, rewritten, deleted, present::int, turn, unended,
           stamp.rows, stamp.makers::text, stamp.places::text
    FROM {schema}.transcript LEFT JOIN LATERAL (
        SELECT count(*) AS rows, coalesce(sum(maker), 0) AS makers, coalesce(sum(maker * seq), 0) AS places
        FROM (SELECT xmin::text::numeric AS maker, seq FROM {schema}.entry
              WHERE entry.session_id = transcript.session_id AND entry.life = transcript.life AND seq <= $2) AS made
    ) AS stamp ON true
    WHERE session_id = $1
"""
INSERT_HEAD = """
    INSERT INTO {schema}.transcript
    (session_id, life, version, entries, bytes, digest, token, adopted, rewritten, deleted, present, turn, unended,
     request)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""
UPDATE_HEAD = """
    UPDATE {schema}.transcript SET life = $2, version = $3, entries = $4, bytes = $5, digest = $6, token = $7,
    adopted = $8, rewritten = $9, deleted = $10, present = $11, turn = $12, unended = $13, request = $14
    WHERE session_id = $1
"""
# What is checked before is checked by the statement that writes, too.
APPEND = """
    WITH added AS (
        INSERT INTO {schema}.entry (session_id, life, seq, line, digest, turn)
        SELECT $1, $2, $3::bigint + number, line, decode(digest, 'hex'), $4
        FROM unnest($5::text[], $6::text[]) WITH ORDINALITY AS given (line, digest, number)
    )
    UPDATE {schema}.transcript SET version = version + 1, entries = $7, bytes = $8, digest = $9, token = $10,
    turn = $11, unended = $12, request = $13
    WHERE session_id = $1 AND life = $2 AND version = $14 AND token <= $10
    RETURNING (pg_current_xact_id()::text::numeric % 4294967296)::bigint
"""
PUT_ROWS = """
    INSERT INTO {schema}.entry (session_id, life, seq, line, digest)
    SELECT $1, $2, number, line, decode(digest, 'hex')
    FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS given (line, digest, number)
"""
ROWS = """
    SELECT seq, line, digest, xmin::text::bigint FROM {schema}.entry
    WHERE session_id = $1 AND life = $2 AND seq >= $3 ORDER BY seq
"""
ALL_ROWS = """
    SELECT seq, line, digest, xmin::text::bigint FROM {schema}.entry WHERE session_id = $1 AND life = $2 ORDER BY seq
"""
CUT_ROWS = "DELETE FROM {schema}.entry WHERE session_id = $1 AND life = $2 AND seq > $3"
DROP_ROWS = "DELETE FROM {schema}.entry WHERE session_id = $1 AND life = $2"
WRITTEN = "SELECT seq FROM {schema}.entry WHERE session_id = $1 AND life = $2 AND turn = $3 ORDER BY seq"
PUT_ENDED = "UPDATE {schema}.transcript SET unended = '' WHERE session_id = $1 AND unended = $2"
DROP_SOME = "DELETE FROM {schema}.entry WHERE session_id = $1 AND life = $2 AND seq = ANY ($3::text[]::bigint[])"
# Upwards, each to a number that the one before has left: no two have one number at any moment.
MOVE_ROW = "UPDATE {schema}.entry SET seq = $4, digest = $5 WHERE session_id = $1 AND life = $2 AND seq = $3"
ANY_ROW = "SELECT 1 FROM {schema}.entry WHERE session_id = $1 AND life = $2 LIMIT 1"
# Where the row of a transcript is lost: the life whose lines lie there without a tombstone, else the next one.
LIFE = """
    SELECT coalesce(
        (SELECT max(life) FROM {schema}.entry WHERE session_id = $1
         AND life NOT IN (SELECT life FROM {schema}.tombstone WHERE session_id = $1)),
        (SELECT max(life) + 1 FROM {schema}.tombstone WHERE session_id = $1),
        1)
"""
BURY = "INSERT INTO {schema}.tombstone (session_id, life, deleted_at) VALUES ($1, $2, $3)"
HOLDER = "SELECT holder FROM {schema}.transcript_lease WHERE session_id = $1 AND until > clock_timestamp()"


class Stamp(NamedTuple):
    """How many rows there are, and which transactions have made them.

    A row that is changed is a new one to the server, of a later transaction or an earlier one that ended later.
    """

    rows: int = 0
    makers: int = 0
    places: int = 0

    def with_row(self, maker: int, seq: int) -> "Stamp":
        """Return the stamp with one row more."""
        return Stamp(self.rows + 1, self.makers + maker, self.places + maker * seq)


class Write:
    """One owned write, by whatever number of transactions.

    Mutable: `before`, the request of the write before, as the last transaction has found it; None where there was none.
    """

    __slots__ = ("before", "request")

    def __init__(self) -> None:
        self.request: uuid.UUID = uuid.uuid4()
        self.before: uuid.UUID | None = None


class Tables:
    """The tables as one transaction sees them, for one session.

    Args:
        transaction: that reads and writes.
        key: what stands for the session in them.
        write: the owned write it belongs to; None where it only reads.
    """

    __slots__ = ("_transaction", "_write", "key")

    def __init__(self, transaction: Transaction, key: str, write: Write | None = None) -> None:
        self._transaction = transaction
        self._write = write
        self.key: str = key

    async def head(self) -> Head | None:
        """Return what is owned, and in a write keep it as it is; None if there is none, or it is none of ours."""
        row = await self._transaction.row(HEAD if self._write is None else LOCKED_HEAD, self.key)
        if self._write is not None:
            self._write.before = None if row is None else row[-1]
        return None if row is None else head_in(row[:-1])

    async def stamped_head(self, count: int) -> tuple[Head | None, Stamp]:
        """Return what is owned, and the stamp of the rows up to number `count`."""
        row = await self._transaction.row(STAMPED_HEAD, self.key, count)
        if row is None:
            return None, Stamp()
        return head_in(row[:-3]), Stamp(*map(int, row[-3:]))

    async def put_head(self, head: Head) -> None:
        """Say what is owned from now on."""
        if self._write is None:
            raise RuntimeError("a transaction that only reads was to write")
        statement = INSERT_HEAD if self._write.before is None else UPDATE_HEAD
        await self._transaction.execute(statement, self.key, *_columns(head), self._write.request)

    async def append(self, head: Head, written: Head, lines: Sequence[bytes], *, turn: str) -> int:
        """Store lines and say what is owned from then on; return the transaction, or -1 where `head` is not there."""
        if self._write is None:
            raise RuntimeError("a transaction that only reads was to write")
        state = written.state
        found = await self._transaction.row(
            *(APPEND, self.key, head.life, head.state.lines, storable(turn) or None),
            *(*_texts(head.state.digest, lines), state.lines, state.length, state.digest),
            *(written.token, storable(written.turn), storable(written.unended), self._write.request, head.version),
        )
        return -1 if found is None else int(found[0])

    async def rows(self, life: int, *, start: int, keep: bool = False) -> list[tuple[Row, int]]:
        """Return the rows from number `start` on, each with the transaction that has made it.

        With `keep`, they stay as they are until this transaction ends.
        """
        statement = ROWS + " FOR UPDATE" if keep else ROWS
        return [(_row(found), found[3]) for found in await self._transaction.rows(statement, self.key, life, start)]

    async def all_rows(self, life: int) -> tuple[Rows, Stamp]:
        """Return all rows, also those with numbers nobody gives; in a write, keep them as they are."""
        statement = ALL_ROWS if self._write is None else ALL_ROWS + " FOR UPDATE"
        found = await self._transaction.rows(statement, self.key, life)
        stamp = Stamp(len(found), sum(row[3] for row in found), sum(row[3] * row[0] for row in found))
        return Rows([_row(row) for row in found]), stamp

    async def has_rows(self, life: int) -> bool:
        """Tell whether there is any."""
        return await self._transaction.row(ANY_ROW, self.key, life) is not None

    async def written_by(self, life: int, turn: str) -> list[int]:
        """Return the numbers of the rows that a turn has written, from 1."""
        return [row[0] for row in await self._transaction.rows(WRITTEN, self.key, life, storable(turn))]

    async def put_ended(self, unended: str) -> None:
        """Say that no turn has not ended, if it was this one."""
        await self._transaction.execute(PUT_ENDED, self.key, storable(unended))

    async def drop_rows(self, life: int, numbers: Sequence[int]) -> int:
        """Take some rows away, and return how many there were."""
        return await self._transaction.execute(DROP_SOME, self.key, life, [str(number) for number in numbers])

    async def move_row(self, life: int, seq: int, to: int, digest: bytes) -> None:
        """Give a row another number, which none has, and the digest it has there."""
        await self._transaction.execute(MOVE_ROW, self.key, life, seq, to, digest)

    async def cut_rows(self, life: int, count: int) -> int:
        """Take the rows behind the first `count` away, and return how many there were."""
        return await self._transaction.execute(CUT_ROWS, self.key, life, count)

    async def replace_rows(self, life: int, lines: Sequence[bytes]) -> int:
        """Store lines in place of all there are, and return how many there were."""
        count = await self._transaction.execute(DROP_ROWS, self.key, life)
        await self._transaction.execute(PUT_ROWS, self.key, life, *_texts(EMPTY, lines))
        return count

    async def bury(self, life: int, *, at: float) -> None:
        """Make what a life holds a tombstone."""
        await self._transaction.execute(BURY, self.key, life, at)

    async def life(self, head: Head | None) -> int:
        """Return the life whose lines are those of the transcript, also where nothing says what is owned."""
        if head is not None:
            return head.life
        found = await self._transaction.row(LIFE, self.key)
        return 1 if found is None else int(found[0])

    async def salvaged_life(self) -> int:
        """Return the life words are salvaged for: the one that was deleted, until there is another."""
        head = await self.head()
        return await self.life(head) if head is None or head.present else head.life - 1

    async def holder(self) -> uuid.UUID | None:
        """Return who has the write lock."""
        found = await self._transaction.row(HOLDER, self.key)
        return None if found is None else found[0]


def _columns(head: Head) -> tuple[object, ...]:
    state = head.state
    owned = (head.life, head.version, state.lines, state.length, state.digest, head.token)
    turns = (storable(head.turn), storable(head.unended))
    return (*owned, head.adopted, head.rewritten, head.deleted, head.present, *turns)


def _texts(digest: bytes, lines: Sequence[bytes]) -> tuple[list[str], list[str]]:
    """Return lines behind a digest, and the digests up to each, as the driver takes them without asking the server."""
    digests: list[str] = []
    for line in lines:
        digest = chained(digest, (line,))
        digests.append(digest.hex())
    return [line.decode() for line in lines], digests


def _row(found: Columns) -> Row:
    return Row(found[0], found[1].encode(), found[2])


def state_behind(state: State, lines: Sequence[bytes]) -> State:
    """Return a state with lines behind it."""
    length = state.length + sum(len(line) + 1 for line in lines)
    return State(length, state.lines + len(lines), chained(state.digest, lines))
