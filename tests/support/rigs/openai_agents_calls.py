"""A model of openai-agents that calls tools, and what tests say of its runs."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from agents import Agent, ModelResponse, RunResultStreaming, Session, Usage
from agents.items import TResponseStreamEvent
from openai.types.responses import ResponseFunctionToolCall, ResponseTextDeltaEvent

from support.rigs import Line, ScriptedModel
from support.rigs.openai_agents import Scripted, completed, lines_of

__all__ = ("Calling", "agent_of", "kinds_of", "lines_in", "words_of")


class Calling(Scripted):
    """The scripted model, which answers some messages with the call of a tool first.

    Mutable: `_calls`, how many it has made.

    Args:
        model: what it says.
        calls: the name of a tool and its arguments, by the message.
    """

    def __init__(self, model: ScriptedModel, calls: Mapping[str, tuple[str, dict[str, Any]]]) -> None:
        super().__init__(model)
        self._of = calls
        self._calls = 0

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        call = self._call(input)
        if call is None:
            return await super().get_response(system_instructions, input, *args, **kwargs)
        return ModelResponse(output=[call], usage=Usage(), response_id="r")

    async def stream_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> AsyncIterator[TResponseStreamEvent]:
        call = self._call(input)
        if call is not None:
            yield completed([call], number=1)
            return
        async for event in super().stream_response(system_instructions, input, *args, **kwargs):
            yield event

    def _call(self, input: Any) -> ResponseFunctionToolCall | None:
        last: Any = input if isinstance(input, str) else input[-1].get("content") if "role" in input[-1] else None
        if last not in self._of:
            return None
        self._calls += 1
        name, arguments = self._of[last]
        return ResponseFunctionToolCall(
            arguments=json.dumps(arguments), call_id=f"call-{id(self)}-{self._calls}", name=name, type="function_call"
        )


def agent_of(
    model: ScriptedModel, *, name: str = "Agent", calls: Mapping[str, Any] | None = None, **options: Any
) -> Any:
    """Return an agent with a scripted model."""
    return Agent(name=name, model=Calling(model, calls or {}), **options)


async def lines_in(session: Session) -> list[Line]:
    """Return what people and the agent said."""
    return lines_of(await session.get_items())


async def kinds_of(session: Session) -> list[str]:
    """Return what the items of a session are: the role of a message, else the type."""
    return [str(item.get("role") or item["type"]) for item in map(dict, await session.get_items())]


async def words_of(result: RunResultStreaming) -> AsyncIterator[str]:
    """Yield what the model says."""
    async for event in result.stream_events():
        if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
            yield event.data.delta
