"""Who is out on a prompt release, and how a monitor calls them back."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from turnlane.transcripts.finding import Finding

__all__ = ("Outing", "Outings")


class Outing:
    """One task inside the block of a prompt release.

    Mutable: `_found` (why it was called back), `_called` (whether its task is cancelled for it).

    Args:
        path: of the transcript.
        turn: the turn it is of; empty for none.
        can_be_called: whether an unowned edit always ends its turn.
    """

    __slots__ = ("_called", "_cancelling", "_found", "_task", "can_be_called", "path", "turn")

    def __init__(self, path: str, turn: str, *, can_be_called: bool) -> None:
        self.path: str = path
        self.turn: str = turn
        self.can_be_called: bool = can_be_called
        self._task = asyncio.current_task()
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        self._found: Finding | None = None
        self._called = False

    def __repr__(self) -> str:
        return f"<Outing {self.path} turn={self.turn or '-'}{' called back' if self._called else ''}>"

    def call_back(self, found: Finding) -> bool:
        """Cancel the task, once, and not where somebody else has; tell whether it was."""
        task = self._task
        if self._called or not self.can_be_called or task is None or task.cancelling() > self._cancelling:
            return False
        self._found = found
        self._called = task.cancel()
        return self._called

    def end(self, error: BaseException | None) -> Finding | None:
        """Take the cancellation back; return why, if it is what has ended the block, and nobody else asked for one."""
        task = self._task
        if not self._called or task is None:
            return None
        self._called = False
        left = task.uncancel()
        return self._found if isinstance(error, asyncio.CancelledError) and left <= self._cancelling else None


class Outings:
    """Those who are out, by session id.

    Mutable: `_out`; a session is in it only while somebody is out.
    """

    __slots__ = ("_out",)

    def __init__(self) -> None:
        self._out: dict[str, list[Outing]] = {}

    def __repr__(self) -> str:
        return f"<Outings sessions={len(self._out)}>"

    def of(self, session_id: str) -> tuple[Outing, ...]:
        """Return who is out on a session's transcript, the longest first."""
        return tuple(self._out.get(session_id, ()))

    @contextmanager
    def out(self, session_id: str, outing: Outing) -> Generator[Outing, None, None]:
        """Be found inside the block."""
        self._out.setdefault(session_id, []).append(outing)
        try:
            yield outing
        finally:
            others = self._out[session_id]
            others.remove(outing)
            if not others:
                del self._out[session_id]
