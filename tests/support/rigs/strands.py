"""An agent of strands whose sessions are in files, as its documentation has them."""

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from typing import Any, cast

from strands import Agent
from strands.models import Model
from strands.session.file_session_manager import FileSessionManager
from strands.types.content import Message, Messages
from strands.types.exceptions import SessionException
from strands.types.streaming import StreamEvent

from support.rigs.contract import Line, Rig, ScriptedModel
from turnlane_integrations.strands import LaneAgents

__all__ = ("RIG", "Scripted", "lines_of")

AGENT = "rig"


def lines_of(messages: Messages) -> list[Line]:
    """Return what people and the agent said."""
    return [Line(message["role"], _text(message)) for message in messages]


def _text(message: Message) -> str:
    return "".join(part.get("text", "") for part in message["content"])


class Scripted(Model):
    """The scripted model, as one of strands."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model

    def update_config(self, **model_config: Any) -> None:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {}

    def structured_output(self, *args: Any, **kwargs: Any) -> AsyncGenerator[dict[str, Any], None]:
        raise NotImplementedError

    def stream(self, messages: Messages, *args: Any, **kwargs: Any) -> AsyncIterable[StreamEvent]:
        return self._events([line.text for line in lines_of(messages) if line.role == "user"])

    async def _events(self, said: list[str]) -> AsyncGenerator[StreamEvent, None]:
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        async with aclosing(self._model.words(said)) as parts:
            async for part in parts:
                yield {"contentBlockDelta": {"delta": {"text": part}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


class Strands(Rig):
    """See the module."""

    async def open(self) -> None:
        self._model = Scripted(self.model)
        self._agents = None if self.runtime is None else LaneAgents(self.runtime, self._make_agent)

    def _make_agent(self, session_id: str) -> Agent:
        sessions = FileSessionManager(session_id, storage_dir=f"{self.place.directory}/sessions")
        return Agent(model=self._model, agent_id=AGENT, session_manager=sessions, callback_handler=None)

    async def answer(self, conversation: str, text: str) -> str:
        if self._agents is None:
            return _said(await self._make_agent(conversation).invoke_async(text))
        return _said(await self._agents.invoke_async(conversation, text))

    async def stream(self, conversation: str, text: str) -> AsyncGenerator[str, None]:
        if self._agents is None:
            events = cast("AsyncGenerator[Any, None]", self._make_agent(conversation).stream_async(text))
        else:
            events = self._agents.stream_async(conversation, text)
        async with aclosing(events):
            async for event in events:
                if "data" in event:
                    yield event["data"]

    async def history(self, conversation: str) -> list[Line]:
        store = FileSessionManager(conversation, storage_dir=f"{self.place.directory}/sessions")
        try:
            stored = store.list_messages(conversation, AGENT)
        except SessionException:  # no agent was made
            return []
        return lines_of([message.to_message() for message in stored])


def _said(result: Any) -> str:
    return _text(result.message)


RIG = Strands
