"""Writes that third parties make to the file themselves, as a framework's own compaction does, made owned."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from turnlane.transcripts.contract import Author, Changes, TranscriptHandle, UnownedEdit

__all__ = ("OwnedWrite", "Validate", "refuse_awaitable")

Validate = Callable[[Any, str], object]
"""Tells, of what a writer returned and the text it left, whether that is exactly what it was to write."""


class OwnedWrite:
    """One such write, while the lock is held: proven before, and accepted only if it is what `validate` approves.

    Args:
        handle: of the transcript.
        author: who has it made.
        validate: called with the writer's result and the appended text; with `rewrite`, the whole new text.
        rewrite: whether it may change what is there.

    Mutable: `_before`, the content it began with.
    """

    __slots__ = ("_author", "_before", "_handle", "_validate", "rewrite")

    def __init__(self, handle: TranscriptHandle, author: Author, validate: Validate, *, rewrite: bool) -> None:
        self._handle = handle
        self._author = author
        self._validate = validate
        self.rewrite: bool = rewrite
        self._before = b""

    def begin(self) -> Changes:
        """Prove what is there, whatever its size; return what owned writes of others did before.

        Raises:
            UnownedEdit, StaleTurn: the writer must not be called.
        """
        changes, self._before = self._handle.witness(self._author)
        return changes

    def end(self, result: object) -> Sequence[dict[str, Any]] | None:
        """Own what the writer did; return the entries it appended, or all there are if it rewrote; None for no change.

        Raises:
            UnownedEdit: it is not what `validate` approves, or the old content does not stand.
            Exception: of `validate`, where nothing was changed.
        """
        return self._handle.accept(self._author, self._before, lambda text: self._approves(result, text), self.rewrite)

    def failed(self) -> UnownedEdit | None:
        """Tell what a writer that raised has left behind; None if nothing."""
        try:
            self._handle.accept(self._author, self._before, lambda _: False, self.rewrite)
        except UnownedEdit as edit:
            return edit
        return None

    def _approves(self, result: object, text: str) -> bool:
        answer = self._validate(result, text)
        refuse_awaitable(answer, "validate", instead="it has to be a plain function")
        return bool(answer)


def refuse_awaitable(found: object, what: str, *, instead: str) -> None:
    """Raise where a plain function was wanted: an awaitable would be taken for a true answer."""
    if inspect.isawaitable(found):
        if inspect.iscoroutine(found):
            found.close()
        raise TypeError(f"{what} of owned_write returned an awaitable: {instead}")
