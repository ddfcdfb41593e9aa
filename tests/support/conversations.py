"""Conversations of pydantic-ai in transcripts, and what somebody may do to them who does not own them."""

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationStore
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart

from support.rigs.pydantic_ai import lines_of
from turnlane import Transcripts
from turnlane_integrations.pydantic_ai import TranscriptConversationStore

__all__ = ("DATABASE", "KINDS", "said", "store_in", "tamper", "texts", "turn_of")

KINDS = ("files", "sqlite")
DATABASE = "conversations.db"


@asynccontextmanager
async def store_in(kind: str, directory: Path) -> AsyncGenerator[tuple[TranscriptConversationStore, Transcripts], None]:
    """Open a store of a kind, for the block, with the transcripts it is made of."""
    place = f"sqlite:///{directory / DATABASE}" if kind == "sqlite" else str(directory / "conversations")
    async with Transcripts(place) as transcripts:
        yield TranscriptConversationStore(transcripts), transcripts


def said(text: str, reply: str) -> list[ModelMessage]:
    """Return what a turn adds to a conversation."""
    return [ModelRequest(parts=[UserPromptPart(text)]), ModelResponse(parts=[TextPart(reply)])]


async def turn_of(
    store: ConversationStore, conversation_id: str, text: str, *, scope: str | None = None
) -> Conversation:
    """Load, continue and save a conversation, as those do who are alone; return it."""
    conversation = await store.load(conversation_id, scope=scope) or Conversation(conversation_id=conversation_id)
    conversation.messages += said(text, f"re {text}")
    await store.save(conversation, scope=scope)
    return conversation


def texts(messages: Sequence[ModelMessage]) -> list[str]:
    """Return the words of messages."""
    return [line.text for line in lines_of(messages)]


def tamper(kind: str, directory: Path, conversation_id: str, *, old: str, new: str) -> None:
    """Put other words in the place of some, by other means."""
    if kind == "sqlite":
        with closing(sqlite3.connect(directory / DATABASE)) as connection, connection:
            update = "UPDATE entry SET line = replace(CAST(line AS TEXT), ?, ?) WHERE CAST(line AS TEXT) LIKE ?"
            assert connection.execute(update, (old, new, f"%{old}%")).rowcount > 0
        return
    path = directory / "conversations" / f"{conversation_id}.jsonl"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
