"""What becomes of a conversation that could not be saved: its words are kept, and the error says where."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic_ai.conversation_store import ConversationConflict

from turnlane import Transcripts
from turnlane.errors import TranscriptTakeover
from turnlane.transcripts import Author
from turnlane.transcripts.entries import encoded
from turnlane.transcripts.takeover import rescue

__all__ = ("ConversationTakeover", "kept")

E = TypeVar("E", bound=Exception)


class ConversationTakeover(ConversationConflict, TranscriptTakeover):
    """Somebody who does not own the transcript of a conversation has changed it since it was loaded.

    To pydantic-ai it is a conflict: load the conversation again. Its facts are those of a `TranscriptTakeover`.
    """

    def __init__(self, conversation_id: str, found: TranscriptTakeover, *, salvaged: str | None) -> None:
        TranscriptTakeover.__init__(
            self,
            found.path,
            kind=found.kind,
            offset=found.offset,
            line=found.line,
            expected=found.expected,
            found=found.found,
            phase=found.phase,
            turn=found.turn,
            salvaged=salvaged,
            remedy=found.remedy,
        )
        self.conversation_id: str = conversation_id
        self.message: str = str(self)


async def kept(
    transcripts: Transcripts,
    conversation_id: str,
    messages: Sequence[Any],
    author: Author,
    error: E,
) -> E | ConversationTakeover:
    """Put messages into the salvage, if they are not there, and return the error that says so.

    Args:
        transcripts: where the conversation is.
        conversation_id: whose the messages are.
        messages: those that were to be saved, as JSON holds them.
        author: who wanted to.
        error: why they were not.
    """
    salvaged: str | None = getattr(error, "salvaged", None)
    if salvaged is None:
        lines = encoded([{"message": message} for message in messages])
        salvaged = await rescue(transcripts.store, conversation_id, lines, author, reason=error)
    if isinstance(error, TranscriptTakeover):
        return ConversationTakeover(conversation_id, error, salvaged=salvaged)
    if salvaged is not None:
        error.add_note(f"what was to be saved is in {salvaged}")
    return error
