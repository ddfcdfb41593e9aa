"""One transcript in PostgreSQL: what is owned, what is there, and owned writes. Each method is one transaction's job.

What the write lock keeps apart is checked here all the same: nothing is written unless the version, the token and the
content are those the fence says. Owned writes lock the row that says what is owned; who edits rows by other means locks
nothing, so rows that are taken away are locked and counted, and one that slips in is found by the digests.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace

from turnlane.errors import StaleTurn, TranscriptUnavailable
from turnlane.postgresql import Transaction
from turnlane.transcripts.contract import Author, Changes, Fence, UnownedEdit
from turnlane.transcripts.postgresql_content import NOTHING, Mark, Stamped, Written, behind, held
from turnlane.transcripts.postgresql_tables import Stamp, Tables, Write, state_behind
from turnlane.transcripts.record import State, drawn
from turnlane.transcripts.rows import Head, Loaded, Proof, Rows, difference, entries_in, finding_in

__all__ = ("OwnedRows",)


class OwnedRows:
    """One transcript; every method is given a transaction, and a write the owned write it belongs to.

    Args:
        key: what stands for the session in the tables.
        path: names the transcript in errors.
        holder: whose write lock it is written under.
    """

    __slots__ = ("_path", "holder", "key")

    def __init__(self, key: str, *, path: str, holder: uuid.UUID) -> None:
        self.key: str = key
        self.holder: uuid.UUID = holder
        self._path = path

    async def load(
        self, transaction: Transaction, write: Write | None, author: Author, *, adopt: bool
    ) -> Stamped | None:
        """Read everything and hold it against what is owned; begin or adopt it in a write, else return None.

        Raises:
            UnownedEdit, StaleTurn, TranscriptCorrupt: as the contract says.
        """
        tables = Tables(transaction, self.key, write)
        head = await tables.head()
        rows, stamp = await tables.all_rows(await tables.life(head))
        finding = finding_in(rows, head)
        self._require_token(head, author)
        if finding is not None and not adopt:
            raise UnownedEdit(finding)
        entries = entries_in(rows.lines, where=self._path)
        if finding is None and head is not None and head.present:
            return Stamped(Loaded(head.fence, entries), Mark(head.version, head.state, stamp))
        if write is None:
            return None
        await self._require_lock(tables, "open it")
        if finding is None:
            begun = await self._begin(tables, head)
            return Stamped(Loaded(begun.fence, entries), Mark(begun.version, begun.state, stamp))
        adopted = await self._adopt(tables, head, rows, author)
        mark = Mark(adopted.version, adopted.state, stamp) if rows.wrong is None else None
        return Stamped(Loaded(adopted.fence, entries, finding), mark)

    async def join(
        self, transaction: Transaction, write: Write | None, author: Author, *, bound: int | None, mark: Mark | None
    ) -> Stamped | None:
        """Take what is owned for the fence; a transcript that is not there begins in a write, else return None.

        Args:
            transaction: where it is read.
            write: the owned write it belongs to.
            author: whose token is checked.
            bound: hold everything up to so many bytes against what is owned, and of more than that the last entry;
                None for any number.
            mark: what is remembered of the rows: what is the same is not read, and what is not is, at any size.

        Raises:
            UnownedEdit, StaleTurn: as the contract says.
        """
        tables = Tables(transaction, self.key, write)
        head, stamp = await tables.stamped_head(mark.state.lines if mark is not None else 0)
        if write is not None:
            head = await tables.head()
        self._require_token(head, author)
        if head is not None and head.present:
            _, here, whole = await held(tables, head, head.state, stamp, bound=bound, mark=mark)
            return Stamped(Proof(head.fence, Changes(), whole), here)
        rows, stamp = await tables.all_rows(await tables.life(head))
        finding = finding_in(rows, head)
        if finding is not None:
            raise UnownedEdit(finding)
        if write is None:
            return None
        await self._require_lock(tables, "open it")
        begun = await self._begin(tables, head)
        return Stamped(Proof(begun.fence, Changes(), True), Mark(begun.version, begun.state, stamp))

    async def prove(
        self, transaction: Transaction, fence: Fence, author: Author, *, bound: int | None, mark: Mark | None
    ) -> Stamped:
        """Prove that nothing but owned writes happened since the fence.

        Args:
            transaction: where it is read.
            fence: what was proven last.
            author: whose token is checked.
            bound: hold everything up to so many bytes against what is owned, and of more than that what was added;
                None for any number, always.
            mark: what is remembered of the rows: what is the same is not read, and what is not is, at any size.

        Raises:
            UnownedEdit, StaleTurn, TranscriptCorrupt, TranscriptUnavailable: as the contract says.
        """
        tables = Tables(transaction, self.key)
        if bound == NOTHING:
            found, stamp = await tables.head(), Stamp()
        else:
            found, stamp = await tables.stamped_head(mark.state.lines if mark is not None else 0)
        head = await self._standing(tables, found, fence, "check it")
        rewritten = head.rewritten > fence.version
        lines, here, whole = await held(
            tables, head, State() if rewritten else fence.state, stamp, bound=None if rewritten else bound, mark=mark
        )
        self._require_token(head, author)
        start = 0 if rewritten else fence.state.lines
        entries = entries_in(lines, where=self._path, first_line=start + 1)
        return Stamped(Proof(head.fence, Changes(tuple(entries), rewritten), whole), here)

    async def append(
        self,
        transaction: Transaction,
        write: Write,
        fence: Fence,
        lines: Sequence[bytes],
        author: Author,
        mark: Mark | None,
    ) -> Written:
        """Store lines behind the fence, and return the new one.

        Raises:
            UnownedEdit, StaleTurn, TranscriptUnavailable: nothing was stored.
        """
        tables = Tables(transaction, self.key, write)
        head = await self.fenced(tables, fence, author, "append to it")
        await behind(tables, head, fence.state)
        written = self._next(head, author, state=state_behind(head.state, lines))
        written = replace(written, unended=self.unended_after(head, author))
        maker = await tables.append(head, written, lines, turn=self.traced(author))
        if maker < 0:
            raise self._unavailable("append to it", f"version {fence.version} was proven, and is not there")
        if mark is None or mark.version != fence.version:
            return Written(written.fence)
        stamp = mark.stamp
        for number in range(head.state.lines + 1, written.state.lines + 1):
            stamp = stamp.with_row(maker, number)
        return Written(written.fence, Mark(written.version, written.state, stamp))

    async def behind(self, transaction: Transaction, fence: Fence, to: Fence, author: Author) -> tuple[bytes, ...]:
        """Return what was appended behind an earlier fence.

        Raises:
            UnownedEdit, StaleTurn, TranscriptUnavailable: as the contract says.
        """
        return (await self._since(Tables(transaction, self.key), fence, to, author))[1]

    async def cut_back(
        self, transaction: Transaction, write: Write, fence: Fence, to: Fence, author: Author
    ) -> Written:
        """Take away what was appended behind an earlier fence, and return the new one.

        Raises:
            UnownedEdit, StaleTurn, TranscriptUnavailable: nothing was taken away.
        """
        tables = Tables(transaction, self.key, write)
        head, lines = await self._since(tables, fence, to, author)
        rows = await tables.rows(head.life, start=to.state.lines + 1, keep=True)
        self.require_same([row.line for row, _ in rows] == list(lines), "go back in it")
        self.require_same(await tables.cut_rows(head.life, to.state.lines) == len(rows), "go back in it")
        return Written((await self.put(tables, head, author, state=to.state)).fence)

    async def delete(self, transaction: Transaction, write: Write, author: Author, *, at: float) -> None:
        """Make a tombstone of what is there, whatever it is.

        Raises:
            StaleTurn: nothing was deleted.
        """
        tables = Tables(transaction, self.key, write)
        head = await tables.head()
        self._require_token(head, author)
        await self._require_lock(tables, "delete it")
        found = Head(life=await tables.life(None), version=0, state=State(), present=False) if head is None else head
        if not found.present and not await tables.has_rows(found.life):
            return
        version = found.version + 1
        await tables.bury(found.life, at=at)
        gone = replace(found, life=found.life + 1, deleted=version, present=False, unended="")
        await self.put(tables, gone, author, state=State())

    def traced(self, author: Author) -> str:
        """Return the turn that rows are to be found by; empty where turns are not noted."""
        return ""

    def unended_after(self, head: Head, author: Author) -> str:
        """Return the live turn that has not ended, once somebody has appended."""
        return head.unended

    # -- inside a transaction

    async def _standing(self, tables: Tables, head: Head | None, fence: Fence, operation: str) -> Head:
        """Return what is owned, if what the fence says can have led to it."""
        if head is None or (head.version <= fence.version and head.fence != fence):
            rows, _ = await tables.all_rows(await tables.life(head))
            raise UnownedEdit(replace(difference(rows, fence.state), kind="unknown" if rows.lines else "deleted"))
        if head.deleted > fence.version:
            raise self._unavailable(operation, "it was deleted")
        if head.adopted != fence.adopted:
            raise UnownedEdit(difference((await tables.all_rows(head.life))[0], fence.state))
        return head

    async def fenced(self, tables: Tables, fence: Fence, author: Author, operation: str) -> Head:
        """Return what is owned, if it is what the fence says, and the write lock is nobody else's."""
        head = await self._standing(tables, await tables.head(), fence, operation)
        self._require_token(head, author)
        if head.version != fence.version:
            reason = f"version {fence.version} was proven, {head.version} is there: somebody wrote it without its lock"
            raise self._unavailable(operation, reason)
        await self._require_lock(tables, operation)
        return head

    async def _since(self, tables: Tables, fence: Fence, to: Fence, author: Author) -> tuple[Head, tuple[bytes, ...]]:
        head = await self.fenced(tables, fence, author, "go back in it")
        first = await tables.rows(head.life, start=to.state.lines) if to.state.lines else []
        stands = not to.state.lines or [(row.seq, row.digest) for row, _ in first[:1]] == [
            (to.state.lines, to.state.digest)
        ]
        if to.state.lines > head.state.lines or not stands:
            raise self._unavailable("go back in it", "it was rewritten since")
        return head, tuple(row.line for row, _ in await behind(tables, head, to.state))

    async def _begin(self, tables: Tables, head: Head | None) -> Head:
        """Own a transcript that is not there, as an empty one."""
        if head is None:
            begun = Head(life=await tables.life(None), version=1, state=State(), adopted=drawn(), rewritten=1)
        else:
            begun = replace(head, version=head.version + 1, rewritten=head.version + 1, present=True)
        await tables.put_head(begun)
        return begun

    async def _adopt(self, tables: Tables, head: Head | None, rows: Rows, author: Author) -> Head:
        known = Head(life=await tables.life(None), version=0, state=State()) if head is None else head
        if rows.wrong is not None:
            self.require_same(await tables.replace_rows(known.life, rows.lines) == len(rows.lines), "adopt it")
        return await self.put(tables, replace(known, adopted=drawn(), present=True), author, state=rows.state)

    async def put(self, tables: Tables, head: Head, author: Author, *, state: State) -> Head:
        """Say what is owned from the next version on, which is no append, and return that."""
        written = self._next(head, author, state=state)
        written = replace(written, rewritten=written.version)
        await tables.put_head(written)
        return written

    def _next(self, head: Head, author: Author, *, state: State) -> Head:
        return replace(head, version=head.version + 1, state=state, token=head.highest(author), turn=author.turn)

    def require_same(self, same: bool, operation: str) -> None:
        """Refuse to take away what was not read.

        Raises:
            TranscriptUnavailable: somebody has stored a row in that very moment; nothing is done.
        """
        if not same:
            raise self._unavailable(operation, "somebody who does not own it wrote to it in that very moment")

    async def _require_lock(self, tables: Tables, operation: str) -> None:
        holder = await tables.holder()
        if holder is not None and holder != self.holder:
            raise self._unavailable(operation, "its write lock has gone to another, after this one had stood still")

    def _require_token(self, head: Head | None, author: Author) -> None:
        if head is not None and author.token is not None and author.token < head.token:
            raise StaleTurn(self._path, token=author.token, highest=head.token)

    def _unavailable(self, operation: str, reason: str) -> TranscriptUnavailable:
        return TranscriptUnavailable(self._path, operation=operation, reason=reason)
