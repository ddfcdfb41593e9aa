"""What a turn has while it is out: what it wants stored when it is back, and what others did meanwhile."""

from typing import Any

from turnlane.errors import NotConfigured
from turnlane.transcripts.contract import Changes
from turnlane.transcripts.entries import Entry, encoded

__all__ = ("Prompt",)


class Prompt:
    """One prompt release; see `Transcript.released`.

    Mutable: `_lines` until the way back, `_changes` and `_rewritten` from then on.
    """

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._changes: list[dict[str, Any]] = []
        self._rewritten = False
        self._closed = False

    def __repr__(self) -> str:
        return f"<Prompt staged={len(self._lines)} changes={len(self._changes)}>"

    @property
    def changes(self) -> tuple[dict[str, Any], ...]:
        """The entries that owned writes of others added while this turn was out; known on the way back."""
        return tuple(self._changes)

    @property
    def rewritten(self) -> bool:
        """Whether one of those writes was no append: then `changes` is the whole new content."""
        return self._rewritten

    def stage(self, *entries: Entry) -> None:
        """Have entries stored on the way back, after those staged before; salvaged where that is not possible.

        Raises:
            ValueError: an entry is not an object that JSON can hold.
            NotConfigured: the block has ended.
        """
        if self._closed:
            raise NotConfigured("stage() belongs into the released() block, which has ended; use transcript.append()")
        self._lines += encoded(entries)

    def close(self) -> tuple[bytes, ...]:
        """Take what was staged, as lines; nothing can be staged any more."""
        self._closed = True
        lines, self._lines = tuple(self._lines), []
        return lines

    def note(self, changes: Changes) -> None:
        """Note what others did."""
        if changes.rewritten:
            self._changes, self._rewritten = [], True
        self._changes += changes.entries
