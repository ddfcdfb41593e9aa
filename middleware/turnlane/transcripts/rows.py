"""A transcript as rows of a database: what is owned, what is there, and how the two differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from turnlane.transcripts.contract import Author, Changes, Fence
from turnlane.transcripts.digest import DIGEST_BYTES, Chain
from turnlane.transcripts.entries import decoded
from turnlane.transcripts.finding import Finding, found_in
from turnlane.transcripts.record import State

__all__ = (
    "Head",
    "Loaded",
    "Proof",
    "Row",
    "Rows",
    "begins_with",
    "difference",
    "entries_in",
    "finding_in",
    "head_in",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is owned of one session; the columns of `transcript`."""

    life: int
    version: int
    state: State
    token: int = 0
    adopted: int = 0
    rewritten: int = 0
    deleted: int = 0
    present: bool = True
    turn: str = ""
    unended: str = ""

    @property
    def fence(self) -> Fence:
        """The fence of whoever has just proven this."""
        return Fence(self.version, self.state, self.adopted)

    def highest(self, author: Author) -> int:
        """Return the highest token once somebody has written."""
        return max(self.token, author.token or 0)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `entry`. Somebody may have stored anything as its number and digest."""

    seq: object
    line: bytes
    digest: object


class Rows:
    """All rows of a transcript, and what they come to.

    Attributes:
        lines: the lines.
        chain: what they are as a JSONL file.
        stored: the digests that are stored with them; empty bytes where there is none.
        wrong: the first row, from 0, whose number or digest is not the right one.
    """

    __slots__ = ("chain", "lines", "stored", "wrong")

    def __init__(self, rows: Sequence[Row]) -> None:
        self.lines: tuple[bytes, ...] = tuple(row.line for row in rows)
        self.chain: Chain = Chain()
        self.stored: Chain = Chain()
        self.wrong: int | None = None
        for number, row in enumerate(rows):
            self.chain.add(row.line)
            self.stored.digests.append(row.digest if isinstance(row.digest, bytes) else b"")
            if self.wrong is None and (row.seq, row.digest) != (number + 1, self.chain.digests[-1]):
                self.wrong = number

    @property
    def state(self) -> State:
        """Their length, number and digest."""
        return State(self.chain.length, len(self.lines), self.chain.digest)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `load` found."""

    fence: Fence
    entries: list[dict[str, Any]]
    finding: Finding | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """What `prove` and `join` found: what is owned now, what others did, and whether the whole content was read."""

    fence: Fence
    changes: Changes
    whole: bool


def entries_in(lines: Sequence[bytes], *, where: str, first_line: int = 1) -> list[dict[str, Any]]:
    """Return the entries of some rows.

    Raises:
        TranscriptCorrupt: one is not an entry; it names its number.
    """
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, first_line):
        entries += decoded(line, where=where, first_line=number)
    return entries


def begins_with(rows: Rows, state: State) -> bool:
    """Tell whether rows begin with some state."""
    return state.lines == 0 or rows.chain.digests[state.lines - 1 : state.lines] == [state.digest]


def finding_in(rows: Rows, head: Head | None) -> Finding | None:
    """Hold rows against what is owned; None if they are that."""
    if head is None or not head.present:
        return Finding(kind="unknown", offset=0, line=1, expected=State(), found=rows.state) if rows.lines else None
    return None if rows.wrong is None and rows.state == head.state else difference(rows, head.state)


def difference(rows: Rows, owned: State) -> Finding:
    """Say how rows differ from what was owned. What it held is told by the digests that are stored with them."""
    chain, found = rows.chain, rows.state
    if not rows.lines and owned.lines:
        return Finding(kind="deleted", offset=None, line=None, expected=owned, found=found)
    if found == owned and rows.wrong is not None:
        offset, line = chain.offsets[rows.wrong], rows.wrong + 1
        return Finding(kind="edited", offset=offset, line=line, expected=owned, found=found)
    return found_in(chain, owned, replaced=False, known=rows.stored)


def head_in(row: Sequence[object]) -> Head | None:
    """Return what is owned, from the columns that say so; None if they are none of ours."""
    life, version, entries, length, digest, token, adopted, rewritten, deleted, present, turn, unended = row
    counts: list[int] = []
    for value in (life, version, entries, length, token, adopted, rewritten, deleted, present):
        if not isinstance(value, int) or value < 0:
            return None
        counts.append(value)
    if not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES or not isinstance(turn, str):
        return None
    if not isinstance(unended, str):
        return None
    return Head(
        life=counts[0],
        version=counts[1],
        state=State(counts[3], counts[2], digest),
        token=counts[4],
        adopted=counts[5],
        rewritten=counts[6],
        deleted=counts[7],
        present=bool(counts[8]),
        turn=turn,
        unended=unended,
    )
