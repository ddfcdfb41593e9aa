"""A transcript in PostgreSQL whose rows tell which turn wrote them, so that a turn can be rolled back."""

from dataclasses import replace

from turnlane.postgresql import Transaction, storable
from turnlane.transcripts.contract import Author, Fence, UnownedEdit
from turnlane.transcripts.digest import EMPTY, chained
from turnlane.transcripts.postgresql_content import Written
from turnlane.transcripts.postgresql_owned import OwnedRows
from turnlane.transcripts.postgresql_tables import Tables, Write
from turnlane.transcripts.record import State
from turnlane.transcripts.rows import Head, Rows, finding_in

__all__ = ("TracedRows",)


class TracedRows(OwnedRows):
    """See `OwnedRows`."""

    __slots__ = ()

    def traced(self, author: Author) -> str:
        """Return the turn, where it has a token too: one without can write again after it was rolled back."""
        return "" if author.token is None else author.turn

    async def written_by(self, transaction: Transaction, fence: Fence, turn: str, author: Author) -> tuple[bytes, ...]:
        """Return the lines that a turn has written.

        Raises:
            UnownedEdit, StaleTurn, TranscriptUnavailable: as the contract says.
        """
        _, rows, numbers = await self._written(Tables(transaction, self.key), fence, turn, author)
        return tuple(rows.lines[number] for number in numbers)

    async def take_out(
        self, transaction: Transaction, write: Write, fence: Fence, turn: str, author: Author
    ) -> Written:
        """Take them away, number what stands behind them anew, and return the new fence.

        Raises:
            UnownedEdit, StaleTurn, TranscriptUnavailable: nothing was taken away.
        """
        tables = Tables(transaction, self.key, write)
        head, rows, numbers = await self._written(tables, fence, turn, author)
        if not numbers:
            if head.highest(author) > head.token:  # turns behind the author write no more
                await tables.put_head(replace(head, token=head.highest(author)))
            return Written(head.fence)
        chosen, kept, length, digest = set(numbers), 0, 0, EMPTY
        count = await tables.drop_rows(head.life, [number + 1 for number in numbers])
        self.require_same(count == len(numbers), "roll a turn back")
        for number, line in enumerate(rows.lines):
            if number in chosen:
                continue
            kept, length, digest = kept + 1, length + len(line) + 1, chained(digest, (line,))
            if kept <= number:
                await tables.move_row(head.life, number + 1, kept, digest)
        left = replace(head, unended="" if head.unended == storable(turn) else head.unended)
        return Written((await self.put(tables, left, author, state=State(length, kept, digest))).fence)

    async def end_turn(self, transaction: Transaction, author: Author) -> None:
        """Note that a turn has ended, if it is the one that has not."""
        await Tables(transaction, self.key).put_ended(author.turn)

    async def unended(self, transaction: Transaction) -> str | None:
        """Return the turn that was the last to write, if it was live and its end was not noted."""
        head = await Tables(transaction, self.key).head()
        return None if head is None or not head.present else head.unended or None

    def unended_after(self, head: Head, author: Author) -> str:
        """Return the live turn that has not ended: the one that writes, if it is live."""
        if not self.traced(author):
            return head.unended
        if author.live:
            return storable(author.turn)
        return head.unended if head.unended == storable(author.turn) else ""

    async def _written(self, tables: Tables, fence: Fence, turn: str, author: Author) -> tuple[Head, Rows, list[int]]:
        """Return what is owned, all rows, and which of them, from 0, the turn has written."""
        head = await self.fenced(tables, fence, author, "roll a turn back")
        rows, _ = await tables.all_rows(head.life)
        finding = finding_in(rows, head)
        if finding is not None:
            raise UnownedEdit(finding)
        return head, rows, [seq - 1 for seq in await tables.written_by(head.life, turn)]
