"""An agent of openai-agents whose sessions are in SQLite, as its documentation has them."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from agents import (
    Agent,
    Model,
    ModelResponse,
    RunConfig,
    Runner,
    Session,
    SQLiteSession,
    TResponseInputItem,
    Usage,
)
from agents.items import TResponseStreamEvent
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)

from support.rigs.contract import Line, Rig, ScriptedModel
from turnlane_integrations.openai_agents import LaneRunner

__all__ = ("RIG", "UNTRACED", "OpenAIAgents", "Scripted", "completed", "lines_of", "text_of")

UNTRACED = RunConfig(tracing_disabled=True)


def text_of(content: Any) -> str:
    """Return the text of a message's content."""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def lines_of(items: list[TResponseInputItem]) -> list[Line]:
    """Return what people and the agent said."""
    found = [cast("dict[str, Any]", item) for item in items]
    return [Line(item["role"], text_of(item["content"])) for item in found if item.get("role") in ("user", "assistant")]


class Scripted(Model):
    """The scripted model, as one of openai-agents."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        return ModelResponse(output=[_message(await self._model.reply(_said(input)))], usage=Usage(), response_id="r")

    async def stream_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> AsyncIterator[TResponseStreamEvent]:
        words: list[str] = []
        async with aclosing(self._model.words(_said(input))) as parts:
            async for part in parts:
                words.append(part)
                yield ResponseTextDeltaEvent(
                    content_index=0,
                    delta=part,
                    item_id="m",
                    logprobs=[],
                    output_index=0,
                    sequence_number=len(words),
                    type="response.output_text.delta",
                )
        yield completed([_message("".join(words))], number=len(words) + 1)


def completed(output: list[ResponseOutputItem], *, number: int) -> ResponseCompletedEvent:
    """Return the event that ends the stream of a model's answer."""
    response = Response(
        id="r",
        created_at=0,
        model="scripted",
        object="response",
        output=output,
        parallel_tool_calls=False,
        tool_choice="none",
        tools=[],
    )
    return ResponseCompletedEvent(response=response, sequence_number=number, type="response.completed")


def _said(items: str | list[TResponseInputItem]) -> list[str]:
    if isinstance(items, str):
        return [items]
    return [line.text for line in lines_of(items) if line.role == "user"]


def _message(text: str) -> ResponseOutputMessage:
    content = ResponseOutputText(annotations=[], text=text, type="output_text")
    return ResponseOutputMessage(id="m", content=[content], role="assistant", status="completed", type="message")


class OpenAIAgents(Rig):
    """See the module."""

    async def open(self) -> None:
        self._agent = Agent(name="Rig", model=Scripted(self.model))
        self._runner = None if self.runtime is None else LaneRunner(self.runtime)

    def session_of(self, conversation: str) -> Session:
        """Return the memory of a conversation."""
        session = SQLiteSession(conversation, f"{self.place.directory}/sessions.db")
        self.stack.callback(session.close)
        return session

    async def answer(self, conversation: str, text: str) -> str:
        run = Runner.run if self._runner is None else self._runner.run
        result = await run(self._agent, text, session=self.session_of(conversation), run_config=UNTRACED)
        return str(result.final_output)

    async def stream(self, conversation: str, text: str) -> AsyncGenerator[str, None]:
        session = self.session_of(conversation)
        if self._runner is None:
            result = Runner.run_streamed(self._agent, text, session=session, run_config=UNTRACED)
            async for event in result.stream_events():
                if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
                    yield event.data.delta
            return
        async with self._runner.run_streamed(self._agent, text, session=session, run_config=UNTRACED) as result:
            async for event in result.stream_events():
                if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
                    yield event.data.delta

    async def history(self, conversation: str) -> list[Line]:
        return lines_of(await self.session_of(conversation).get_items())


RIG = OpenAIAgents
