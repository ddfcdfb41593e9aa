"""`SessionChanged`: what a fenced repository raises inside an agent, and how it becomes a `TranscriptTakeover`."""

from typing import Any

from strands.types.exceptions import SessionException

from turnlane import Transcripts
from turnlane.errors import TranscriptTakeover
from turnlane_integrations._refused import refused

__all__ = ("SessionChanged", "refusal_behind")


class SessionChanged(SessionException):
    """Somebody else changed a session of strands after this agent had read it; what it was to store is in here.

    Repositories of strands are not async, so the words are kept where `settle` is awaited; `LaneAgents` does that.
    Pickled, it keeps its facts and words, and not where they were to go.

    Attributes:
        session_id: of the session.
        kind: appended, edited, truncated or deleted.
        expected: what was proven last.
        found: what is there.
        phase: where it was found, as in `TranscriptTakeover`.
        words: what was refused, as objects that JSON can hold.
    """

    def __init__(
        self,
        session_id: str,
        *,
        kind: str,
        expected: str,
        found: str,
        phase: str,
        words: tuple[dict[str, Any], ...],
        salvage: Transcripts | None = None,
    ) -> None:
        self.session_id: str = session_id
        self.kind: str = kind
        self.expected: str = expected
        self.found: str = found
        self.phase: str = phase
        self.words: tuple[dict[str, Any], ...] = words
        self._salvage = salvage
        self._takeover: TranscriptTakeover | None = None  # once it is settled
        super().__init__(
            f"session {session_id!r} was {kind} by somebody else (found at {phase}): {expected} was proven, "
            f"{found} is there"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        facts = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return _rebuilt, (facts,)

    async def settle(self) -> TranscriptTakeover:
        """Keep the words in the salvage, once, and return the error of turnlane to raise.

        Raises:
            RuntimeError: this error was pickled, or made by hand: it does not know the salvage.
            TranscriptError: the salvage could not keep them.
        """
        if self._salvage is None:
            raise RuntimeError("this error does not know where its words are to go: they are in `words`") from self
        self._takeover = self._takeover or await refused(
            self._salvage,
            self.session_id,
            self.words,
            where=f"session {self.session_id!r}",
            kind=self.kind,
            expected=self.expected,
            found=self.found,
            phase=self.phase,
        )
        return self._takeover


def refusal_behind(error: BaseException) -> SessionChanged | None:
    """Return the refusal that an error of strands was made of, if it was: strands wraps what its storage raises."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, SessionChanged):
            return cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return None


def _rebuilt(facts: dict[str, Any]) -> SessionChanged:
    return SessionChanged(**facts)
