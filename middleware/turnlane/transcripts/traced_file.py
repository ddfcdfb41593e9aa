"""A JSONL file that notes which lines a turn has written, and gives up those of a turn that is rolled back."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from turnlane.transcripts.contract import Author, Fence, UnownedEdit
from turnlane.transcripts.digest import EMPTY
from turnlane.transcripts.fenced_file import FencedFile
from turnlane.transcripts.owned_file import OwnedFile
from turnlane.transcripts.record import State
from turnlane.transcripts.seen_file import Content
from turnlane.transcripts.traces import Traces

__all__ = ("TracedFile",)

logger: logging.Logger = logging.getLogger("turnlane.transcripts")


class TracedFile(FencedFile):
    """See `FencedFile`; everything here needs the lock.

    Args:
        file: the file and its journal.
        traces: where turns are noted.
    """

    def __init__(self, file: OwnedFile, traces: Traces) -> None:
        super().__init__(file)
        self._traces = traces

    def append(self, lines: Sequence[bytes], author: Author) -> None:
        """Note who appends, and append."""
        self.require_token(author)
        self._traces.note(author, self.record.state, lines)
        try:
            super().append(lines, author)
        except BaseException:
            with suppress(OSError):  # what is in the file all the same is behind a record that has gone on
                self._traces.note_cut(self.record.state.lines)
            raise

    def cut_back(self, to: Fence, author: Author) -> None:
        """Cut lines off, and note that they are nobody's any more."""
        super().cut_back(to, author)
        self._traces.note_cut(to.state.lines)

    def delete(self, author: Author, *, tombstone: str) -> None:
        """Delete it; what begins in its place, no turn has written."""
        super().delete(author, tombstone=tombstone)
        self._traces.forget()

    def accept(
        self, author: Author, before: bytes, approves: Callable[[str], bool], rewrite: bool
    ) -> list[dict[str, Any]] | None:
        """Own what a third party wrote for the turn, and note what it appended; what it rewrote is nobody's."""
        owned = self.record.state
        entries = super().accept(author, before, approves, rewrite)
        if entries is not None and not rewrite:
            self._traces.note(author, owned, _lines_of(self._proven())[owned.lines :])
        return entries

    def written_by(self, turn: str, author: Author) -> tuple[bytes, ...]:
        """Return the lines that a turn has written; see `TranscriptHandle.take_out`."""
        self.require_token(author)
        content = self._proven()
        lines = _lines_of(content)
        return tuple(lines[number] for number in self._traces.of(turn, content.chain))

    def take_out(self, turn: str, author: Author) -> None:
        """Take them away, and move the fence; right after `written_by`. Turns behind the author write no more."""
        content, file = self._proven(), self.file
        numbers = self._traces.of(turn, content.chain)
        if numbers:
            first, chosen, token = min(numbers), set(numbers), author.token or 0
            if len(chosen) == len(content.chain.digests) - first:  # nobody has written behind them
                file.cut_back(_state_before(first, content), token=token, turn=author.turn)
            else:
                kept = [line for number, line in enumerate(_lines_of(content)) if number not in chosen]
                file.rewrite(kept, token=token, turn=author.turn)
            self._chain = self._proven().chain
            self._move_fence()
            try:
                self._traces.forget()
            except OSError as error:
                logger.warning("traces_not_forgotten path=%s turn=%s: %s", file.path, turn, error)
        elif author.token is not None and author.token > self.record.token:
            file.set_token(author.token)

    def _proven(self) -> Content:
        content = self.file.content()
        finding = self.file.compare(content, known=self._chain)
        if finding is not None or content is None:
            raise UnownedEdit(finding or self.file.difference(content, self.fence.state, known=self._chain))
        return content


def _state_before(number: int, content: Content) -> State:
    """Return the state of some content without its lines from this number on."""
    chain = content.chain
    return State(chain.offsets[number], number, chain.digests[number - 1] if number else EMPTY)


def _lines_of(content: Content) -> list[bytes]:
    lines = content.data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines
