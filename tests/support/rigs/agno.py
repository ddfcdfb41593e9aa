"""An agent of agno whose sessions are in SQLite, as its documentation has them."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field
from typing import Any

from agno.agent import Agent
from agno.db.base import BaseDb
from agno.db.sqlite import SqliteDb
from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse
from agno.run.agent import RunContentEvent, RunErrorEvent
from agno.run.base import RunStatus

from support.rigs.contract import Line, Rig, ScriptedModel
from turnlane_integrations.agno import LaneRunner

__all__ = ("RIG", "RunFailed", "Scripted", "agent_of", "lines_of")


class RunFailed(Exception):
    """What a caller makes of a run that has not succeeded: agno raises nothing, and says so in what it returns."""


@dataclass
class Scripted(Model):
    """The scripted model, as one of agno."""

    id: str = "scripted"
    script: ScriptedModel = field(default_factory=ScriptedModel)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Scripted":
        return self

    async def ainvoke(self, messages: list[Message], *args: Any, **kwargs: Any) -> ModelResponse:
        return ModelResponse(role="assistant", content=await self.script.reply(said(messages)))

    async def ainvoke_stream(self, messages: list[Message], *args: Any, **kwargs: Any) -> AsyncIterator[ModelResponse]:
        async with aclosing(self.script.words(said(messages))) as parts:
            async for part in parts:
                yield ModelResponse(role="assistant", content=part)

    def invoke(self, messages: list[Message], *args: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError

    def invoke_stream(self, messages: list[Message], *args: Any, **kwargs: Any) -> Iterator[ModelResponse]:
        raise NotImplementedError

    def _parse_provider_response(self, response: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        raise NotImplementedError


def said(messages: list[Message]) -> list[str]:
    """Return what people said."""
    return [message.get_content_string() for message in messages if message.role == "user"]


def agent_of(model: Model, db: Any) -> Any:
    """Return an agent that is shown the whole conversation. Its types are not all known."""
    return Agent(
        id="rig", name="rig", model=model, db=db, add_history_to_context=True, num_history_runs=100, telemetry=False
    )


def lines_of(agent: Any, conversation: str) -> list[Line]:
    """Return what people and the agent said, in the order of their runs."""
    session = agent.get_session(session_id=conversation)
    runs: list[Any] = [] if session is None else session.runs or []
    messages: list[Message] = []
    for run in runs:
        messages.extend(run.messages or ())
    return [
        Line(message.role, message.get_content_string())
        for message in messages
        if message.role in ("user", "assistant") and not message.from_history and message.content
    ]


class Agno(Rig):
    """See the module."""

    errors = (RunFailed,)

    async def open(self) -> None:
        self._db: BaseDb = SqliteDb(db_file=f"{self.place.directory}/agno.db")
        self._agent = agent_of(Scripted(script=self.model), self._db)
        self._runner = None if self.runtime is None else LaneRunner(self.runtime)
        # Its tables are made at its first run, which two processes may not do at once.
        async with nullcontext() if self.runtime is None else self.runtime.turn("the tables"):
            await agent_of(Scripted(), self._db).arun("hello", session_id="the tables")

    async def answer(self, conversation: str, text: str) -> str:
        if self._runner is None:
            result = await self._agent.arun(text, session_id=conversation)
        else:
            result = await self._runner.arun(self._agent, text, session_id=conversation)
        if result.status is not RunStatus.completed:
            raise RunFailed(result.content)
        return str(result.content)

    async def stream(self, conversation: str, text: str) -> AsyncGenerator[str, None]:
        events: Any
        if self._runner is None:
            events = self._agent.arun(text, session_id=conversation, stream=True)
        else:
            events = self._runner.arun(self._agent, text, session_id=conversation, stream=True)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, RunErrorEvent):
                    raise RunFailed(event.content)
                if isinstance(event, RunContentEvent):
                    yield str(event.content)

    async def history(self, conversation: str) -> list[Line]:
        return lines_of(self._agent, conversation)


RIG = Agno
