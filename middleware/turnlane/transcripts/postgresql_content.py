"""What is in a transcript in PostgreSQL, held against what is owned, with as little read as will do."""

from collections.abc import Sequence
from dataclasses import dataclass

from turnlane.transcripts.contract import Fence, UnownedEdit
from turnlane.transcripts.digest import EMPTY, chained
from turnlane.transcripts.postgresql_tables import Stamp, Tables
from turnlane.transcripts.record import State
from turnlane.transcripts.rows import Head, Loaded, Proof, Row, begins_with, difference, finding_in

__all__ = ("NOTHING", "Mark", "Stamped", "Written", "behind", "held")

NOTHING: int = -1
"""A bound up to which nothing is read."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The stamp of the rows when all of them were found to be owned, and what they were then.

    While the first rows have that stamp, they are what they were, and only those behind them need be read.
    """

    version: int
    state: State
    stamp: Stamp

    def leads_to(self, head: Head, stamp: Stamp) -> bool:
        """Tell whether the first rows of what is owned now are those of the mark."""
        return head.rewritten <= self.version <= head.version and stamp == self.stamp


@dataclass(frozen=True, slots=True)
class Stamped:
    """What `load`, `join` and `prove` found, and the mark to remember, if everything was read."""

    found: Loaded | Proof
    mark: Mark | None


@dataclass(frozen=True, slots=True)
class Written:
    """What an owned write has led to: the new fence, and the mark of before with what was written."""

    fence: Fence
    mark: Mark | None = None


async def held(
    tables: Tables, head: Head, state: State, stamp: Stamp, *, bound: int | None, mark: Mark | None
) -> tuple[tuple[bytes, ...], Mark | None, bool]:
    """Hold what is there against what is owned.

    Args:
        tables: where it is read.
        head: what is owned.
        state: an earlier state.
        stamp: that of the rows the mark knows.
        bound: read everything up to so many bytes; None for any number; `NOTHING` for what is behind the state.
        mark: what is remembered.

    Returns:
        The lines behind the earlier state, the mark of what is owned now, and whether everything was read.

    Raises:
        UnownedEdit: it is not that.
    """
    # A mark that can have led here and does not is a change: by content it is told whether it is an edit.
    usable = bound not in (None, NOTHING) and mark is not None and head.rewritten <= mark.version <= head.version
    if usable and mark is not None and mark.leads_to(head, stamp):
        since = mark.state if mark.state.lines < state.lines else state
        rows = await behind(tables, head, since)
        for row, maker in rows:
            if isinstance(row.seq, int) and row.seq > mark.state.lines:
                stamp = stamp.with_row(maker, row.seq)
        lines = tuple(row.line for row, _ in rows)
        return lines[state.lines - since.lines :], Mark(head.version, head.state, stamp), False
    if usable or bound is None or head.state.length <= bound:
        everything, stamp = await tables.all_rows(head.life)
        finding = finding_in(everything, head)
        if finding is None and not begins_with(everything, state):
            finding = difference(everything, state)
        if finding is not None:
            raise UnownedEdit(finding)
        return everything.lines[state.lines :], Mark(head.version, head.state, stamp), True
    return tuple(row.line for row, _ in await behind(tables, head, state)), None, False


async def behind(tables: Tables, head: Head, state: State) -> Sequence[tuple[Row, int]]:
    """Return what stands behind an earlier state: read from its last line on, it must lead to what is owned.

    Raises:
        UnownedEdit: it does not.
    """
    start = max(1, state.lines)
    rows = await tables.rows(head.life, start=start - 1)
    digest = EMPTY
    if start > 1:
        before = rows.pop(0)[0].digest if rows and rows[0][0].seq == start - 1 else None
        digest = before if isinstance(before, bytes) else b""
    added: list[tuple[Row, int]] = []
    for number, (row, maker) in enumerate(rows, start):
        digest = chained(digest, (row.line,))
        if (row.seq, row.digest) != (number, digest) or (number == state.lines and digest != state.digest):
            break
        if number > state.lines:
            added.append((row, maker))
    else:
        length = state.length + sum(len(row.line) + 1 for row, _ in added)
        if State(length, state.lines + len(added), digest) == head.state:
            return added
    found, _ = await tables.all_rows(head.life)
    raise UnownedEdit(finding_in(found, head) or difference(found, state))
