"""An agent of llama-index whose memory is in a database, as its documentation has it."""

import warnings
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.memory import Memory
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from support.rigs.contract import Line, Rig, ScriptedModel
from turnlane_integrations.llama_index import LaneRunner

__all__ = ("INSPECTED", "RIG", "Scripted", "lines_of")

INSPECTED = "(The `|Accessing the '?)(__fields|model_)"
"""Begins what pydantic warns of where workflows look for the steps of an agent, which is a model of pydantic."""


def lines_of(messages: Sequence[ChatMessage]) -> list[Line]:
    """Return what people and the agent said."""
    return [Line(message.role.value, message.content or "") for message in messages]


class Scripted(FunctionCallingLLM):
    """The scripted model, as one of llama-index."""

    _model: ScriptedModel = PrivateAttr()

    def __init__(self, model: ScriptedModel) -> None:
        super().__init__()
        self._model = model

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_function_calling_model=True, is_chat_model=True)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return ChatResponse(message=_message(await self._model.reply(_said(messages))))

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        return self._parts(_said(messages))

    async def _parts(self, said: list[str]) -> ChatResponseAsyncGen:
        whole = ""
        async with aclosing(self._model.words(said)) as parts:
            async for part in parts:
                whole += part
                yield ChatResponse(message=_message(whole), delta=part)

    def get_tool_calls_from_response(self, *args: Any, **kwargs: Any) -> list[Any]:
        return []

    def _prepare_chat_with_tools(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"messages": kwargs["chat_history"] or []}

    # What agents do not call.

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        raise NotImplementedError

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        raise NotImplementedError

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        raise NotImplementedError

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        raise NotImplementedError

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        raise NotImplementedError

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        raise NotImplementedError


def _said(messages: Sequence[ChatMessage]) -> list[str]:
    return [line.text for line in lines_of(messages) if line.role == "user"]


def _message(text: str) -> ChatMessage:
    return ChatMessage(role="assistant", content=text)


class LlamaIndex(Rig):
    """See the module."""

    async def open(self) -> None:
        self.stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", INSPECTED, DeprecationWarning)
        # SQLite has one writer at a time: a process waits at its one connection, processes wait for each other.
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{self.place.directory}/memory.db",
            connect_args={"timeout": 60},
            pool_size=1,
            max_overflow=0,
            pool_timeout=120,
        )
        self.stack.push_async_callback(engine.dispose)
        self._store = SQLAlchemyChatStore("messages", async_engine=engine)
        with suppress(OperationalError):  # the other worker has made the table in this moment
            await self._store.get_keys()  # makes it; two first uses at once fail
        self._agent: Any = FunctionAgent(llm=Scripted(self.model))
        self._runner = None if self.runtime is None else LaneRunner(self.runtime)

    def _memory(self, conversation: str) -> Memory:
        return Memory(session_id=conversation, token_limit=30_000, sql_store=self._store)

    async def answer(self, conversation: str, text: str) -> str:
        if self._runner is None:
            return str(await self._agent.run(user_msg=text, memory=self._memory(conversation)))
        return str(await self._runner.run(self._agent, user_msg=text, memory=self._memory(conversation)))

    async def stream(self, conversation: str, text: str) -> AsyncGenerator[str, None]:
        memory = self._memory(conversation)
        if self._runner is None:
            handler = self._agent.run(user_msg=text, memory=memory)
            async for event in handler.stream_events():
                if isinstance(event, AgentStream):
                    yield event.delta
            await handler
            return
        async with self._runner.run_streamed(self._agent, user_msg=text, memory=memory) as handler:
            async for event in handler.stream_events():
                if isinstance(event, AgentStream):
                    yield event.delta
            await handler

    async def history(self, conversation: str) -> list[Line]:
        return lines_of(await self._store.get_messages(conversation))


RIG = LlamaIndex
