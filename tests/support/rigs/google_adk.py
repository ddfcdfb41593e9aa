"""An agent of google-adk whose sessions are in a database, as its documentation has them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.models.base_llm import BaseLlm
from google.adk.models.base_llm_connection import BaseLlmConnection
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import DatabaseSessionService, Session
from google.genai.types import Blob, Content, Part
from websockets.exceptions import ConnectionClosedOK

from support.rigs.contract import Line, Rig, ScriptedModel
from turnlane_integrations.google_adk import LaneRunner

__all__ = ("APP", "RIG", "USER", "Scripted", "agent_of", "config_of", "lines_of", "message")

APP, USER = "rig", "ada"


class Scripted(BaseLlm):
    """The scripted model, as one of ADK."""

    script: Any  # a ScriptedModel

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        said = [text_of(content) for content in llm_request.contents if content.role == "user"]
        words: list[str] = []
        script: ScriptedModel = self.script
        async with aclosing(script.words(said)) as parts:
            async for part in parts:
                words.append(part)
                if stream:
                    yield LlmResponse(content=answer_of(part), partial=True)
        yield LlmResponse(content=answer_of("".join(words)), partial=False)

    @asynccontextmanager
    async def connect(self, llm_request: LlmRequest) -> AsyncGenerator[BaseLlmConnection, None]:
        """Connect for a live run."""
        yield Connection()


class Connection(BaseLlmConnection):
    """A live connection that answers `live <text>` to each message, until it is closed."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[str | None] = asyncio.Queue()

    async def send_history(self, history: list[Content]) -> None:
        """Take what was said before."""

    async def send_content(self, content: Content) -> None:
        await self._said.put(text_of(content))

    async def send_realtime(self, blob: Blob) -> None:
        """Take sound, and say nothing to it."""

    async def receive(self) -> AsyncGenerator[LlmResponse, None]:
        while (text := await self._said.get()) is not None:
            yield LlmResponse(content=answer_of(f"live {text}"), partial=False)
            yield LlmResponse(turn_complete=True)
        raise ConnectionClosedOK(None, None)  # as that of a real model ends

    async def close(self) -> None:
        await self._said.put(None)


def agent_of(model: ScriptedModel) -> LlmAgent:
    """Return an agent that answers with the scripted model."""
    return LlmAgent(name="rig", model=Scripted(model="scripted", script=model))


def text_of(content: Content | None) -> str:
    """Return the text of a message."""
    return "".join(part.text or "" for part in (content.parts if content is not None else None) or [])


def message(text: str) -> Content:
    """Return a message of a person."""
    return Content(role="user", parts=[Part(text=text)])


def config_of(*, streaming: bool) -> RunConfig:
    """Return the settings of a run."""
    return RunConfig.model_validate({"streaming_mode": "sse"} if streaming else {})


def answer_of(text: str) -> Content:
    return Content(role="model", parts=[Part(text=text)])


def lines_of(session: Session | None) -> list[Line]:
    """Return what people and the agent said."""
    events = [] if session is None else session.events
    return [
        Line("user" if event.author == "user" else "assistant", text_of(event.content))
        for event in events
        if text_of(event.content)
    ]


class GoogleAdk(Rig):
    """See the module."""

    async def open(self) -> None:
        # Two processes write here, to all conversations: who finds the file locked is to wait, however long that is.
        self._service = DatabaseSessionService(
            f"sqlite+aiosqlite:///{self.place.directory}/sessions.db", connect_args={"timeout": 120}
        )
        self.stack.push_async_callback(self._service.close)
        # Its tables are made at its first use, which two processes may not do at once.
        async with nullcontext() if self.runtime is None else self.runtime.turn("the tables"):
            await self._service.list_sessions(app_name=APP)
        settings: dict[str, Any] = {
            "app_name": APP,
            "agent": agent_of(self.model),
            "session_service": self._service,
            "auto_create_session": self.runtime is not None,  # a race of its own, where there are no lanes
        }
        runner = Runner(**settings) if self.runtime is None else LaneRunner(runtime=self.runtime, **settings)
        self._runner = await self.stack.enter_async_context(runner)

    async def answer(self, conversation: str, text: str) -> str:
        async with aclosing(self._events(conversation, text, streaming=False)) as parts:
            return "".join([part async for part in parts])

    async def stream(self, conversation: str, text: str) -> AsyncGenerator[str, None]:
        async with aclosing(self._events(conversation, text, streaming=True)) as parts:
            async for part in parts:
                yield part

    async def _events(self, conversation: str, text: str, *, streaming: bool) -> AsyncGenerator[str, None]:
        if self.runtime is None:
            with suppress(AlreadyExistsError):
                await self._service.create_session(app_name=APP, user_id=USER, session_id=conversation)
        run = self._runner.run_async(
            user_id=USER, session_id=conversation, new_message=message(text), run_config=config_of(streaming=streaming)
        )
        async with aclosing(run) as events:
            async for event in events:
                if bool(event.partial) is streaming:
                    yield text_of(event.content)

    async def history(self, conversation: str) -> list[Line]:
        return lines_of(await self._service.get_session(app_name=APP, user_id=USER, session_id=conversation))


RIG = GoogleAdk
