"""A JSONL file behind the fence of one opener: proving what is there, and writing behind it.

Everything here may block for as long as the disk takes and runs to its end or not at all; all of it needs the lock.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from turnlane.errors import StaleTurn, TranscriptCorrupt, TranscriptUnavailable
from turnlane.transcripts.contract import Author, Changes, Fence, Loss, UnownedEdit
from turnlane.transcripts.digest import EMPTY, Chain, chained
from turnlane.transcripts.entries import decoded
from turnlane.transcripts.finding import Finding, holds_at
from turnlane.transcripts.owned_file import OwnedFile
from turnlane.transcripts.record import Record, State
from turnlane.transcripts.seen_file import Content

__all__ = ("FencedFile",)


class FencedFile:
    """What one opener has proven of one file.

    Mutable: `fence`, and `_chain` (of the content at the fence; None where it was never read), `stale` (whether others
    may have written since the record was read), `_known` (whether there is a record) and `loss` (what a power loss
    took, and is not told yet).

    Args:
        file: the file and its journal.
    """

    def __init__(self, file: OwnedFile) -> None:
        self.file: OwnedFile = file
        self.fence: Fence = Fence(0, State())
        self.stale: bool = True
        self.loss: Loss | None = None
        self._chain: Chain | None = None
        self._known = False

    @property
    def record(self) -> Record:
        """What the journal said when it was read last."""
        return self.file.record

    # -- short enough for the event loop

    def reload(self) -> bool:
        """Read the record if others may have written; tell whether there is one, and no write is half done."""
        file = self.file
        if self.stale:
            self._known = file.load()
            self.stale = file.record.intent is not None
        return self._known and file.record.intent is None

    def is_as_it_was(self, *, settled: bool) -> bool:
        """Tell whether neither owned writes nor a look at the file show a change since the fence."""
        file = self.file
        if self._is_not_ours() or file.record.version != self.fence.version or not file.is_unchanged(settled=settled):
            return False
        chain = self._chain
        if chain is None or not chain.digests:
            return True
        line = file.tail(chain.offsets[-1]).removesuffix(b"\n")
        return chained(chain.digests[-2] if len(chain.digests) > 1 else EMPTY, (line,)) == chain.digest

    def require_token(self, author: Author) -> None:
        """Raise StaleTurn if a turn with a higher token has written."""
        highest = self.file.record.token
        if author.token is not None and author.token < highest:
            raise StaleTurn(self.file.path, token=author.token, highest=highest)

    # -- reading

    def settle(self) -> None:
        """Settle a write that whoever had the lock before did not end, and what a power loss has taken."""
        if not self.reload() and self._known:
            self.file.recovery()
        self.stale = False
        if self._known and self.file.is_of_another_boot:
            self._take_stock()

    def _take_stock(self) -> None:
        before = self.file.record.state
        if self.file.cut_lost_tail():
            kept = self.file.record.state
            self.loss = Loss(lost=before.lines - kept.lines, kept=kept.lines)

    def load(self, author: Author, *, adopt: bool) -> tuple[list[dict[str, Any]], Finding | None]:
        """Read the whole file and set the fence; see `TranscriptHandle.load`."""
        self.settle()
        content = self.file.content()
        finding = self._look_at(content)
        self.require_token(author)
        if finding is not None and not adopt:
            raise UnownedEdit(finding)
        entries = decoded(b"" if content is None else content.data, where=self.file.path)
        if finding is not None:
            self.file.adopt(content, token=author.token or 0, turn=author.turn)
            self._known = True
        self._chain = Chain() if content is None else content.chain
        self._move_fence()
        return entries, finding

    def join(self, author: Author) -> None:
        """Take the record for the fence, where the fingerprint is the owned one; see `TranscriptHandle.join`."""
        self.settle()
        file = self.file
        finding = None
        if not self._known or file.record.is_deleted or not file.is_unchanged(settled=False):
            finding = self._look_at(file.content())
        self.require_token(author)
        if finding is not None:
            raise UnownedEdit(finding)
        self._chain = None
        self._move_fence()

    def _look_at(self, content: Content | None) -> Finding | None:
        """Hold some content against the record; own a transcript that has none yet, or was deleted, if it is empty."""
        if self._known and not self.file.record.is_deleted:
            return self.file.compare(content)
        if content is not None and content.data:
            return Finding(kind="unknown", offset=0, line=1, expected=State(), found=content.state)
        self.file.adopt(content, token=0, turn="")
        self._known = True
        return None

    def prove(self, author: Author, *, thorough: bool, settled: bool) -> Changes:
        """Prove that nothing but owned writes happened since the fence; see `TranscriptHandle.prove`.

        Args:
            author: whose token is checked.
            thorough: compare the whole content.
            settled: do so too where the fingerprint is too young to be believed.
        """
        self.settle()
        file, fence = self.file, self.fence
        record = file.record
        self._require_life()
        if self._is_not_ours():
            raise UnownedEdit(file.difference(file.content(), fence.state, known=self._chain))
        rewritten = record.rewritten > fence.version
        content: Content | None = None
        if thorough or rewritten or not self._chain or not file.is_unchanged(settled=settled):
            content = file.content()
            finding = file.compare(content, known=None if rewritten else self._chain)
            if finding is not None:
                raise UnownedEdit(finding)
        if record.version == fence.version:
            if content is None and not self.is_as_it_was(settled=settled):
                raise UnownedEdit(file.difference(file.content(), fence.state, known=self._chain))
            self.require_token(author)
            return Changes()
        self.require_token(author)
        if content is None:
            entries = self._extended_by(file.tail(fence.state.length), record.state)
        else:
            if not rewritten and not holds_at(content.chain, fence.state):
                raise UnownedEdit(file.difference(content, fence.state, known=self._chain))
            start = 0 if rewritten else fence.state.length
            first_line = 1 if rewritten else fence.state.lines + 1
            entries = decoded(content.data[start:], where=file.path, first_line=first_line)
            self._chain = content.chain
        self._move_fence()
        return Changes(tuple(entries), rewritten)

    def _is_not_ours(self) -> bool:
        """Tell whether what was proven did not lead to the record.

        Somebody has adopted an edit since, or put an older copy of the journal in its place. Once it was lost, its
        versions grow from the beginning again, but what it goes back to has another name.
        """
        record, fence = self.file.record, self.fence
        return (
            record.adopted != fence.adopted
            or record.version < fence.version
            or (record.version == fence.version and record.state != fence.state)
        )

    def _require_life(self) -> None:
        if self.file.record.deleted > self.fence.version:
            raise TranscriptUnavailable(self.file.path, operation="go on with it", reason="it was deleted")

    def _extended_by(self, tail: bytes, owned: State) -> list[dict[str, Any]]:
        """Go on behind the fence with what others wrote, where the whole content need not be read."""
        chain = self._chain or Chain()
        entries = decoded(tail, where=self.file.path, first_line=self.fence.state.lines + 1)
        chain.extend(tail)
        if State(chain.length, len(chain.digests), chain.digest) != owned:
            self._chain = None  # of no use any more
            raise UnownedEdit(self.file.difference(self.file.content(), self.fence.state, known=None))
        return entries

    # -- writing behind the fence

    def append(self, lines: Sequence[bytes], author: Author) -> None:
        """Append lines and move the fence; see `TranscriptHandle.append`."""
        self.require_token(author)
        finding = self.file.append(lines, token=author.token or 0, turn=author.turn)
        if finding is not None:
            raise UnownedEdit(finding)
        if self._chain is not None:
            self._chain.extend(b"".join((b"\n" if self._chain.open_ended else b"", *(line + b"\n" for line in lines))))
        self._move_fence()

    def behind(self, to: Fence, author: Author) -> tuple[bytes, ...]:
        """Return the lines that were appended behind an earlier fence; see `TranscriptHandle.rollback`."""
        file = self.file
        self.require_token(author)
        content = file.content()
        finding = file.compare(content, known=self._chain)
        if finding is not None or content is None:
            raise UnownedEdit(finding or file.difference(content, self.fence.state, known=self._chain))
        kept = Chain(content.data[: to.state.length])
        if State(kept.length, len(kept.digests), kept.digest) != to.state:
            raise TranscriptUnavailable(file.path, operation="go back in it", reason="it was rewritten since")
        return tuple(line for line in content.data[to.state.length :].split(b"\n") if line.strip())

    def cut_back(self, to: Fence, author: Author) -> None:
        """Cut them off, and move the fence; right after `behind`."""
        if to.state != self.file.record.state:
            self.file.cut_back(to.state, token=author.token or 0, turn=author.turn)
            content = self.file.content()
            finding = self.file.compare(content)
            if finding is not None or content is None:
                raise UnownedEdit(finding or self.file.difference(content, to.state, known=None))
            self._chain = content.chain
            self._move_fence()

    def delete(self, author: Author, *, tombstone: str) -> None:
        """Give the file the name of a tombstone, whatever it holds; see `TranscriptHandle.delete`."""
        self.settle()
        self.require_token(author)
        self.file.delete(tombstone, token=author.token or 0, turn=author.turn)
        self._known = True

    # -- third parties that write the file themselves

    def witness(self, author: Author) -> tuple[Changes, bytes]:
        """Prove by content, whatever its size, and return that too; see `TranscriptHandle.witness`."""
        changes = self.prove(author, thorough=True, settled=True)
        content = self.file.content()
        finding = self.file.compare(content, known=self._chain)
        if finding is not None or content is None:
            raise UnownedEdit(finding or self.file.difference(None, self.fence.state, known=None))
        self.file.journal.announce(self.record.number)
        return changes, content.data

    def accept(
        self, author: Author, before: bytes, approves: Callable[[str], bool], rewrite: bool
    ) -> list[dict[str, Any]] | None:
        """Read what is there now, and own it if it is approved; see `TranscriptHandle.accept`."""
        try:
            return self._accepted(author, before, approves, rewrite)
        finally:
            with suppress(OSError):  # what was announced ends with the lock, if not before
                self.file.journal.announce(0)

    def _accepted(
        self, author: Author, before: bytes, approves: Callable[[str], bool], rewrite: bool
    ) -> list[dict[str, Any]] | None:
        content = self.file.content()
        if content is not None and content.data == before:
            return None
        entries = None if content is None else self._approved(content.data, before, approves, rewrite)
        if entries is None or content is None:
            raise UnownedEdit(self.file.difference(content, self.fence.state, known=self._chain))
        self.file.own(content, token=author.token or 0, turn=author.turn, rewritten=rewrite)
        self._chain = content.chain
        self._move_fence()
        return entries

    def _approved(
        self, after: bytes, before: bytes, approves: Callable[[str], bool], rewrite: bool
    ) -> list[dict[str, Any]] | None:
        if not rewrite and not after.startswith(before):
            return None
        written = after if rewrite else after[len(before) :]
        if not rewrite and before and not before.endswith(b"\n") and not written.startswith(b"\n"):
            return None  # it has lengthened the last line
        try:
            entries = decoded(written, where=self.file.path)
            return entries if approves(written.decode()) else None
        except (TranscriptCorrupt, UnicodeDecodeError):
            return None

    def _move_fence(self) -> None:
        record = self.file.record
        self.fence = Fence(record.version, record.state, record.adopted)
