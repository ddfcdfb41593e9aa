"""One transcript in a database: what is owned, what is there, and owned writes. Each method is one transaction.

It runs in the thread of a connection. What the kernel's lock keeps apart is checked here all the same: nothing is
written unless the version and the content are those the fence says.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from turnlane.errors import StaleTurn, TranscriptUnavailable
from turnlane.sqlite import snapshot, transaction
from turnlane.transcripts.contract import Author, Changes, Fence, UnownedEdit
from turnlane.transcripts.digest import chained
from turnlane.transcripts.record import State, drawn
from turnlane.transcripts.rows import Head, Loaded, Proof, Rows, begins_with, difference, entries_in, finding_in
from turnlane.transcripts.sqlite_marks import Mark
from turnlane.transcripts.sqlite_tables import Key, Tables

__all__ = ("Look", "OwnedRows")


@dataclass(frozen=True, slots=True)
class Look:
    """A look at what is owned, and what a connection says of others: while that stays, nobody else has committed."""

    mark: Mark
    head: Head | None


class OwnedRows:
    """One transcript; every method is called with a connection, in its thread, and leaves no transaction open.

    Args:
        key: what stands for the session in the tables.
        path: names the transcript in errors.
    """

    __slots__ = ("_path", "key")

    def __init__(self, key: Key, *, path: str) -> None:
        self.key: Key = key
        self._path = path

    def look(self, connection: sqlite3.Connection) -> Look:
        """Look at what is owned, and at nothing else."""
        with snapshot(connection):
            return Look(_mark(connection), Tables(connection, self.key).head())

    def load(self, connection: sqlite3.Connection, author: Author, *, adopt: bool, write: bool) -> Loaded | None:
        """Read everything and hold it against what is owned; begin or adopt it with `write`, else return None.

        Raises:
            UnownedEdit, StaleTurn, TranscriptCorrupt: as the contract says.
        """
        with transaction(connection) if write else snapshot(connection):
            tables = Tables(connection, self.key)
            head = tables.head()
            rows = tables.all_rows(tables.life(head))
            finding = finding_in(rows, head)
            self._require_token(head, author)
            if finding is not None and not adopt:
                raise UnownedEdit(finding)
            entries = entries_in(rows.lines, where=self._path)
            if finding is None and head is not None and head.present:
                return Loaded(head.fence, entries)
            if not write:
                return None
            begun = self._begin(tables, head) if finding is None else self._adopt(tables, head, rows, author)
            return Loaded(begun.fence, entries, finding)

    def join(self, connection: sqlite3.Connection, author: Author, *, bound: int | None, write: bool) -> Proof | None:
        """Take what is owned for the fence; a transcript that is not there begins with `write`, else return None.

        Args:
            connection: where it is read.
            author: whose token is checked.
            bound: hold everything up to so many bytes against what is owned, and of more than that the last entry;
                None for any number.
            write: whether the connection may write.

        Raises:
            UnownedEdit, StaleTurn: as the contract says.
        """
        with transaction(connection) if write else snapshot(connection):
            tables = Tables(connection, self.key)
            head = tables.head()
            self._require_token(head, author)
            whole = head is None or not head.present or bound is None or head.state.length <= bound
            finding = finding_in(tables.all_rows(tables.life(head)), head) if whole else None
            if finding is not None:
                raise UnownedEdit(finding)
            if head is not None and head.present:
                if not whole:
                    self._behind(tables, head, head.state)
                return Proof(head.fence, Changes(), whole)
            return Proof(self._begin(tables, head).fence, Changes(), True) if write else None

    def prove(self, connection: sqlite3.Connection, fence: Fence, author: Author, *, bound: int | None) -> Proof:
        """Prove that nothing but owned writes happened since the fence.

        Args:
            connection: where it is read.
            fence: what was proven last.
            author: whose token is checked.
            bound: hold everything up to so many bytes against what is owned, and of more than that what was added;
                None for any number.

        Raises:
            UnownedEdit, StaleTurn, TranscriptCorrupt, TranscriptUnavailable: as the contract says.
        """
        with snapshot(connection):
            tables = Tables(connection, self.key)
            head = self._standing(tables, fence, "check it")
            rewritten = head.rewritten > fence.version
            whole = rewritten or bound is None or head.state.length <= bound
            start = 0 if rewritten else fence.state.lines
            if whole:
                rows = tables.all_rows(head.life)
                finding = finding_in(rows, head)
                if finding is None and not rewritten and not begins_with(rows, fence.state):
                    finding = difference(rows, fence.state)
                if finding is not None:
                    raise UnownedEdit(finding)
                lines = rows.lines[start:]
            else:
                lines = self._behind(tables, head, fence.state)
            self._require_token(head, author)
            entries = entries_in(lines, where=self._path, first_line=start + 1)
            return Proof(head.fence, Changes(tuple(entries), rewritten), whole)

    def append(
        self,
        connection: sqlite3.Connection,
        fence: Fence,
        lines: Sequence[bytes],
        author: Author,
        *,
        trusted: Mark | None,
    ) -> Fence:
        """Store lines behind the fence, and return the new one.

        Args:
            connection: that writes.
            fence: what was proven last.
            lines: without line feeds.
            author: who writes.
            trusted: the mark since which nobody else has committed, if it is still the same.

        Raises:
            UnownedEdit, StaleTurn, TranscriptUnavailable: nothing was stored.
        """
        with transaction(connection):
            tables = Tables(connection, self.key)
            head = self.fenced(tables, fence, author, "append to it")
            if _mark(connection) != trusted:
                self._behind(tables, head, fence.state)
            state = tables.put_rows(head.life, head.state, lines, turn=self.traced(author))
            written = replace(head, unended=self.unended_after(head, author))
            return self.put(tables, written, author, state=state).fence

    def behind(self, connection: sqlite3.Connection, fence: Fence, to: Fence, author: Author) -> tuple[bytes, ...]:
        """Return what was appended behind an earlier fence.

        Raises:
            UnownedEdit, StaleTurn, TranscriptUnavailable: as the contract says.
        """
        with snapshot(connection):
            return self._since(Tables(connection, self.key), fence, to, author)[1]

    def cut_back(self, connection: sqlite3.Connection, fence: Fence, to: Fence, author: Author) -> Fence:
        """Take away what was appended behind an earlier fence, and return the new one.

        Raises:
            UnownedEdit, StaleTurn, TranscriptUnavailable: nothing was taken away.
        """
        with transaction(connection):
            tables = Tables(connection, self.key)
            head, _ = self._since(tables, fence, to, author)
            tables.cut_rows(head.life, to.state.lines)
            return self.put(tables, head, author, state=to.state, rewritten=head.version + 1).fence

    def delete(self, connection: sqlite3.Connection, author: Author, *, at: float) -> None:
        """Make a tombstone of what is there, whatever it is.

        Raises:
            StaleTurn: nothing was deleted.
        """
        with transaction(connection):
            tables = Tables(connection, self.key)
            head = tables.head()
            self._require_token(head, author)
            found = Head(life=tables.life(), version=0, state=State(), present=False) if head is None else head
            if not found.present and not tables.has_rows(found.life):
                return
            version = found.version + 1
            tables.bury(found.life, at=at)
            gone = replace(found, life=found.life + 1, deleted=version, present=False, unended="")
            self.put(tables, gone, author, state=State(), rewritten=version)

    def traced(self, author: Author) -> str:
        """Return the turn that rows are to be found by; empty where turns are not noted."""
        return ""

    def unended_after(self, head: Head, author: Author) -> str:
        """Return what stands for the turn that has not ended, once somebody has appended."""
        return head.unended

    # -- inside a transaction

    def _standing(self, tables: Tables, fence: Fence, operation: str) -> Head:
        """Return what is owned, if what the fence says can have led to it."""
        head = tables.head()
        if head is None or (head.version <= fence.version and head.fence != fence):
            rows = tables.all_rows(tables.life(head))
            raise UnownedEdit(replace(difference(rows, fence.state), kind="unknown" if rows.lines else "deleted"))
        if head.deleted > fence.version:
            raise self._unavailable(operation, "it was deleted")
        if head.adopted != fence.adopted:
            raise UnownedEdit(difference(tables.all_rows(head.life), fence.state))
        return head

    def fenced(self, tables: Tables, fence: Fence, author: Author, operation: str) -> Head:
        """Return what is owned, if it is what the fence says."""
        head = self._standing(tables, fence, operation)
        self._require_token(head, author)
        if head.version != fence.version:
            reason = f"version {fence.version} was proven, {head.version} is there: somebody wrote it without its lock"
            raise self._unavailable(operation, reason)
        return head

    def _since(self, tables: Tables, fence: Fence, to: Fence, author: Author) -> tuple[Head, tuple[bytes, ...]]:
        head = self.fenced(tables, fence, author, "go back in it")
        if to.state.lines > head.state.lines or tables.digest_at(head.life, to.state.lines) != to.state.digest:
            raise self._unavailable("go back in it", "it was rewritten since")
        return head, self._behind(tables, head, to.state)

    def _behind(self, tables: Tables, head: Head, state: State) -> tuple[bytes, ...]:
        """Return what stands behind an earlier state: read from its last line on, it must lead to what is owned."""
        start = max(1, state.lines)
        digest = tables.digest_at(head.life, start - 1)
        lines: list[bytes] = []
        for number, row in enumerate(tables.rows(head.life, start=start), start):
            digest = chained(digest, (row.line,))
            if (row.seq, row.digest) != (number, digest) or (number == state.lines and digest != state.digest):
                break
            if number > state.lines:
                lines.append(row.line)
        else:
            length = state.length + sum(len(line) + 1 for line in lines)
            if State(length, state.lines + len(lines), digest) == head.state:
                return tuple(lines)
        found = tables.all_rows(head.life)
        raise UnownedEdit(finding_in(found, head) or difference(found, state))

    def _begin(self, tables: Tables, head: Head | None) -> Head:
        """Own a transcript that is not there, as an empty one."""
        if head is None:
            begun = Head(life=tables.life(), version=1, state=State(), adopted=drawn(), rewritten=1)
        else:
            begun = replace(head, version=head.version + 1, rewritten=head.version + 1, present=True)
        tables.put_head(begun)
        return begun

    def _adopt(self, tables: Tables, head: Head | None, rows: Rows, author: Author) -> Head:
        known = Head(life=tables.life(), version=0, state=State()) if head is None else head
        state = rows.state if rows.wrong is None else tables.replace_rows(known.life, rows.lines)
        version = known.version + 1
        present = replace(known, adopted=drawn(), present=True)
        return self.put(tables, present, author, state=state, rewritten=version)

    def put(self, tables: Tables, head: Head, author: Author, *, state: State, rewritten: int | None = None) -> Head:
        """Say what is owned from the next version on, and return that."""
        written = replace(
            head,
            version=head.version + 1,
            state=state,
            rewritten=head.rewritten if rewritten is None else rewritten,
            token=head.highest(author),
            turn=author.turn,
        )
        tables.put_head(written)
        return written

    def _require_token(self, head: Head | None, author: Author) -> None:
        if head is not None and author.token is not None and author.token < head.token:
            raise StaleTurn(self._path, token=author.token, highest=head.token)

    def _unavailable(self, operation: str, reason: str) -> TranscriptUnavailable:
        return TranscriptUnavailable(self._path, operation=operation, reason=reason)


def _mark(connection: sqlite3.Connection) -> Mark:
    row: tuple[int] = connection.execute("PRAGMA data_version").fetchone()
    return connection, row[0]
