"""An agent of agent-framework whose history is in files, as its documentation has it."""

import warnings
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from agent_framework import (
    Agent,
    AgentSession,
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FileHistoryProvider,
    Message,
    ResponseStream,
)

from support.rigs.contract import Line, Rig, ScriptedModel
from turnlane_integrations.agent_framework import LaneAgentMiddleware

__all__ = ("RIG", "Scripted", "lines_of")


class Scripted(BaseChatClient[Any]):
    """The scripted model, as a chat client."""

    def __init__(self, model: ScriptedModel) -> None:
        super().__init__()
        self._model = model

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **kwargs: Any
    ) -> Awaitable[ChatResponse] | ResponseStream[ChatResponseUpdate, ChatResponse]:
        said = [message.text for message in messages if message.role == "user"]
        if stream:
            return self._build_response_stream(self._parts(said))
        return self._whole(said)

    async def _whole(self, said: list[str]) -> ChatResponse:
        return ChatResponse(messages=Message("assistant", [await self._model.reply(said)]))

    async def _parts(self, said: list[str]) -> AsyncIterable[ChatResponseUpdate]:
        async with aclosing(self._model.words(said)) as parts:
            async for part in parts:
                yield ChatResponseUpdate(contents=[Content.from_text(part)], role="assistant")


def lines_of(messages: Sequence[Message]) -> list[Line]:
    """Return what people and the agent said."""
    return [Line(message.role, message.text) for message in messages]


class AgentFramework(Rig):
    """See the module."""

    async def open(self) -> None:
        with warnings.catch_warnings():  # it is said to be experimental, to everybody who uses it first
            warnings.simplefilter("ignore", FutureWarning)
            self._files = FileHistoryProvider(self.place.directory)
        gate = [] if self.runtime is None else [LaneAgentMiddleware(self.runtime)]
        self._agent = Agent(Scripted(self.model), context_providers=[self._files], middleware=gate)

    async def answer(self, conversation: str, text: str) -> str:
        response = await self._agent.run(text, session=AgentSession(session_id=conversation))
        return response.text

    async def stream(self, conversation: str, text: str) -> AsyncGenerator[str, None]:
        async for update in self._agent.run(text, session=AgentSession(session_id=conversation), stream=True):
            yield update.text

    async def history(self, conversation: str) -> list[Line]:
        return lines_of(await self._files.get_messages(conversation))


RIG = AgentFramework
