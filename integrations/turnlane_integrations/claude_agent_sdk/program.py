"""What is known of the program that writes a session's file during a turn, to tell its lines from those of others."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ("Program",)

SYNTHETIC = "<synthetic>"  # the model of answers that the program itself has written


@dataclass(slots=True)
class Program:
    """What is known of the program that writes during a turn.

    Attributes:
        entrypoint: what it calls itself in the lines it writes.
        at: the message it continues although others have, as `resume_session_at` says.
        answers: the uuids of the answers it has told of.
        all_told: whether these are all.
    """

    entrypoint: str
    at: str | None = None
    answers: set[str] = field(default_factory=set[str])
    all_told: bool = False

    def why_not_its(self, session_id: str, line: dict[str, Any]) -> str | None:
        """Return why it can not have written a line; None where it can."""
        if line.get("sessionId", session_id) != session_id:
            return f"{line.get('uuid')} is of session {line['sessionId']}"
        if line.get("entrypoint", self.entrypoint) != self.entrypoint:
            return f"{line.get('uuid')} was written by {line['entrypoint']!r}"
        if not self.all_told or line.get("type") != "assistant" or line.get("isSidechain"):
            return None
        if line.get("uuid") in self.answers or dict(line.get("message") or {}).get("model") == SYNTHETIC:
            return None
        return f"{line.get('uuid')} is no answer of this turn"
