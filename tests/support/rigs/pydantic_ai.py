"""An agent of pydantic-ai: with us conversations are in our store; without, in SQLite as its chat example has them."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, closing
from pathlib import Path

from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from support.rigs.contract import Line, Rig, ScriptedModel
from turnlane import Transcripts
from turnlane_integrations.pydantic_ai import LaneAgent, TranscriptConversationStore

__all__ = ("RIG", "lines_of", "scripted")


def lines_of(messages: Sequence[ModelMessage]) -> list[Line]:
    """Return what people and the agent said."""
    found: list[Line] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            found += [Line("user", str(part.content)) for part in message.parts if isinstance(part, UserPromptPart)]
        else:
            found += [Line("assistant", part.content) for part in message.parts if isinstance(part, TextPart)]
    return found


def scripted(model: ScriptedModel) -> FunctionModel:
    """Return the scripted model, as one of pydantic-ai."""

    async def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart(await model.reply(_said(messages)))])

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        async with aclosing(model.words(_said(messages))) as words:
            async for word in words:
                yield word

    return FunctionModel(reply, stream_function=stream)


def _said(messages: list[ModelMessage]) -> list[str]:
    return [line.text for line in lines_of(messages) if line.role == "user"]


class Database:
    """What the chat example of pydantic-ai does: the new messages of each run are a row of their own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, conversation, list TEXT)")

    async def messages(self, conversation: str) -> list[ModelMessage]:
        return await asyncio.to_thread(self._messages, conversation)

    async def add(self, conversation: str, new: bytes) -> None:
        await asyncio.to_thread(self._add, conversation, new)

    def _messages(self, conversation: str) -> list[ModelMessage]:
        with closing(sqlite3.connect(self._path)) as connection:
            select = "SELECT list FROM messages WHERE conversation = ? ORDER BY id"
            rows = connection.execute(select, (conversation,)).fetchall()
        return [message for (row,) in rows for message in ModelMessagesTypeAdapter.validate_json(row)]

    def _add(self, conversation: str, new: bytes) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.execute("INSERT INTO messages (conversation, list) VALUES (?, ?)", (conversation, new))


class PydanticAI(Rig):
    """See the module."""

    async def open(self) -> None:
        self._agent = Agent(scripted(self.model))
        directory = Path(self.place.directory)
        if self.runtime is None:
            self._database = Database(directory / "chat.db")
            return
        transcripts = await self.stack.enter_async_context(Transcripts(f"sqlite:///{directory}/conversations.db"))
        self._store = TranscriptConversationStore(transcripts)
        self._laned = LaneAgent(self._agent, runtime=self.runtime, store=self._store)

    async def answer(self, conversation: str, text: str) -> str:
        if self.runtime is not None:
            return (await self._laned.run(text, conversation_id=conversation)).output
        result = await self._agent.run(text, message_history=await self._database.messages(conversation))
        await self._database.add(conversation, result.new_messages_json())
        return result.output

    async def stream(self, conversation: str, text: str) -> AsyncGenerator[str, None]:
        if self.runtime is not None:
            async with self._laned.run_stream(text, conversation_id=conversation) as result:
                async for part in result.stream_text(delta=True, debounce_by=None):
                    yield part
            return
        history = await self._database.messages(conversation)
        async with self._agent.run_stream(text, message_history=history) as result:
            async for part in result.stream_text(delta=True, debounce_by=None):
                yield part
        await self._database.add(conversation, result.new_messages_json())

    async def history(self, conversation: str) -> list[Line]:
        if self.runtime is None:
            return lines_of(await self._database.messages(conversation))
        loaded = await self._store.load(conversation)
        return [] if loaded is None else lines_of(loaded.messages)


RIG = PydanticAI
