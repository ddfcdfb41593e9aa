"""A transcript in a database whose rows tell which turn wrote them, so that a turn can be rolled back."""

import sqlite3
from dataclasses import replace

from turnlane.sqlite import snapshot, transaction
from turnlane.transcripts.contract import Author, Fence, UnownedEdit
from turnlane.transcripts.digest import EMPTY, chained
from turnlane.transcripts.record import State
from turnlane.transcripts.rows import Head, Rows, finding_in
from turnlane.transcripts.sqlite_owned import OwnedRows
from turnlane.transcripts.sqlite_tables import Key, Tables, storable

__all__ = ("TracedRows",)


class TracedRows(OwnedRows):
    """See `OwnedRows`.

    Args:
        key: what stands for the session in the tables.
        path: names the transcript in errors.
        boot: names this boot of the machine; empty where what is committed survives the end of it.
    """

    __slots__ = ("_boot",)

    def __init__(self, key: Key, *, path: str, boot: str) -> None:
        super().__init__(key, path=path)
        self._boot = boot

    def traced(self, author: Author) -> str:
        """Return the turn, where it has a token too: one without can write again after it was rolled back."""
        return "" if author.token is None else author.turn

    def written_by(self, connection: sqlite3.Connection, fence: Fence, turn: str, author: Author) -> tuple[bytes, ...]:
        """Return the lines that a turn has written.

        Raises:
            UnownedEdit, StaleTurn, TranscriptUnavailable: as the contract says.
        """
        with snapshot(connection):
            _, rows, numbers = self._written(Tables(connection, self.key), fence, turn, author)
            return tuple(rows.lines[number] for number in numbers)

    def take_out(self, connection: sqlite3.Connection, fence: Fence, turn: str, author: Author) -> Fence:
        """Take them away, number what stands behind them anew, and return the new fence.

        Raises:
            UnownedEdit, StaleTurn, TranscriptUnavailable: nothing was taken away.
        """
        with transaction(connection):
            tables = Tables(connection, self.key)
            head, rows, numbers = self._written(tables, fence, turn, author)
            if not numbers:
                if head.highest(author) > head.token:  # turns behind the author write no more
                    tables.put_head(replace(head, token=head.highest(author)))
                return head.fence
            chosen, kept, length, digest = set(numbers), 0, 0, EMPTY
            for number, line in enumerate(rows.lines):
                if number in chosen:
                    tables.drop_row(head.life, number + 1)
                    continue
                kept, length, digest = kept + 1, length + len(line) + 1, chained(digest, (line,))
                if kept <= number:
                    tables.move_row(head.life, number + 1, kept, digest)
            left = replace(head, unended="" if self._turn_in(head.unended) == storable(turn) else head.unended)
            return self.put(tables, left, author, state=State(length, kept, digest), rewritten=head.version + 1).fence

    def end_turn(self, connection: sqlite3.Connection, author: Author) -> None:
        """Note that a turn has ended, if it is the one that has not."""
        if self.unended(connection) == storable(author.turn):
            with transaction(connection):
                Tables(connection, self.key).put_ended(self._marked(author))

    def unended(self, connection: sqlite3.Connection) -> str | None:
        """Return the turn that was the last to write, if it was live and its end was not noted."""
        with snapshot(connection):
            head = Tables(connection, self.key).head()
        return None if head is None or not head.present else self._turn_in(head.unended)

    def unended_after(self, head: Head, author: Author) -> str:
        """Return what stands for the turn that has not ended: the one that writes, if it is live."""
        if not self.traced(author):
            return head.unended
        if author.live:
            return self._marked(author)
        return head.unended if self._turn_in(head.unended) == storable(author.turn) else ""

    def _marked(self, author: Author) -> str:
        return f"{self._boot} {storable(author.turn)}"

    def _turn_in(self, unended: str) -> str | None:
        boot, _, turn = unended.partition(" ")
        return turn if turn and boot in ("", self._boot) else None

    def _written(self, tables: Tables, fence: Fence, turn: str, author: Author) -> tuple[Head, Rows, list[int]]:
        """Return what is owned, all rows, and which of them, from 0, the turn has written."""
        head = self.fenced(tables, fence, author, "roll a turn back")
        rows = tables.all_rows(head.life)
        finding = finding_in(rows, head)
        if finding is not None:
            raise UnownedEdit(finding)
        return head, rows, [seq - 1 for seq in tables.written_by(head.life, turn)]
