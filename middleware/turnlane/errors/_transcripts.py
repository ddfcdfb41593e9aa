"""What a transcript refuses."""

from turnlane.errors._base import TurnlaneError

__all__ = (
    "StaleTurn",
    "TranscriptBusy",
    "TranscriptCorrupt",
    "TranscriptError",
    "TranscriptReentry",
    "TranscriptTakeover",
    "TranscriptUnavailable",
)


class TranscriptError(TurnlaneError):
    """Base of what a transcript refuses. `path` names the file, or the table and the session id."""

    path: str


class TranscriptTakeover(TranscriptError):
    """Somebody changed the transcript who does not own it, after this turn had proven what it holds.

    Attributes:
        kind: appended, edited, truncated, replaced, deleted or unknown.
        offset: the byte at which it differs; None where that can not be told.
        line: the same as a line, from 1.
        expected: what was proven last.
        found: what is there.
        phase: where it was found: open, append, release, released (by a monitor), return, owned_write, rollback or
            close.
        turn: the id of the turn that found it, None outside of turns.
        salvaged: where the words went that could not be stored; None where there were none.
        remedy: the command that settles it; empty where the next open does.
    """

    def __init__(
        self,
        path: str,
        *,
        kind: str,
        offset: int | None,
        line: int | None,
        expected: str,
        found: str,
        phase: str,
        turn: str | None = None,
        salvaged: str | None = None,
        remedy: str = "",
    ) -> None:
        self.path = path
        self.kind: str = kind
        self.offset: int | None = offset
        self.line: int | None = line
        self.expected: str = expected
        self.found: str = found
        self.phase: str = phase
        self.turn: str | None = turn
        self.salvaged: str | None = salvaged
        self.remedy: str = remedy
        place = path if line is None else f"{path}:{line}"
        stored = f"; what was to be stored is in {salvaged}" if salvaged else ""
        done = "changed" if kind == "unknown" else kind
        # What an open has refused, the next one with the same settings refuses too.
        adopts = "an open with at_open='flag' adopts it" if phase == "open" else "the next open adopts it"
        super().__init__(
            f"{place} was {done} by somebody who does not own it (found at {phase}): {expected} was proven, "
            f"{found} is there{stored}; {adopts}{f', or: {remedy}' if remedy else ''}"
        )


class StaleTurn(TranscriptError):
    """The token is lower than the highest the transcript has seen: a later turn has begun to write."""

    def __init__(self, path: str, *, token: int, highest: int, salvaged: str | None = None) -> None:
        self.path = path
        self.token: int = token
        self.highest: int = highest
        self.salvaged: str | None = salvaged
        stored = f"; what was to be stored is in {salvaged}" if salvaged else ""
        super().__init__(f"{path}: token {token} is stale, a turn with token {highest} has written since{stored}")


class TranscriptBusy(TranscriptError, TimeoutError):
    """Another task or process kept the write lock for `lock_timeout` seconds. Nothing was taken over."""

    def __init__(self, path: str, *, lock_timeout: float) -> None:
        self.path = path
        self.lock_timeout: float = lock_timeout
        super().__init__(f"{path} was locked by another task or process for {lock_timeout:g} s")


class TranscriptReentry(TranscriptError, RuntimeError):
    """The call chain holds this transcript open already, and would wait for itself."""

    def __init__(self, path: str, *, asked: str) -> None:
        self.path = path
        self.asked: str = asked
        super().__init__(
            f"{path} is open in this call chain, and {asked} would wait for itself; use the one that is open"
        )


class TranscriptCorrupt(TranscriptError, ValueError):
    """A line is not an entry. Nothing is skipped."""

    def __init__(self, path: str, *, line: int, reason: str) -> None:
        self.path = path
        self.line: int = line
        self.reason: str = reason
        super().__init__(f"{path}:{line} is not an entry: {reason}")


class TranscriptUnavailable(TranscriptError, ConnectionError):
    """The file system did not do the operation, or must not be trusted with it."""

    def __init__(self, path: str, *, operation: str, reason: str, salvaged: str | None = None) -> None:
        self.path = path
        self.operation: str = operation
        self.reason: str = reason
        self.salvaged: str | None = salvaged
        stored = f"; what was to be stored is in {salvaged}" if salvaged else ""
        super().__init__(f"{path} could not be used to {operation}: {reason}{stored}")
