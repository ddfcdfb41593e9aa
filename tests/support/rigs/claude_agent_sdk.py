"""An agent of claude-agent-sdk: the program `claude`, each turn one `query` that resumes the session from its file."""

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch
from uuid import NAMESPACE_URL, uuid5

from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKError,
    Message,
    ProcessError,
    StreamEvent,
    TextBlock,
    get_session_messages,
    query,
)

from support.messages_api import MessagesApi, messages_api
from support.rigs.contract import Line, Rig
from turnlane import Lanes, Runtime
from turnlane_integrations.claude_agent_sdk import LaneAgent, session_file

__all__ = ("RIG", "ClaudeAgentSDK", "session_of")

PROGRAMS = 4  # at once; each takes some 200 MB


def session_of(conversation: str) -> str:
    """Return the id of a conversation's session, which has to be a UUID."""
    return str(uuid5(NAMESPACE_URL, conversation))


class ClaudeAgentSDK(Rig):
    """See the module. The sessions' files are proven before and after each turn."""

    errors = (ClaudeSDKError,)
    conversations = 3  # a turn is a program that has to start

    def make_runtime(self, lanes: str) -> Runtime:
        made = Lanes(lanes, max_running=PROGRAMS)
        self.stack.push_async_exit(made)
        return Runtime(lanes=made)

    async def open(self) -> None:
        self.api: MessagesApi = await self.stack.enter_async_context(messages_api(self.model))
        self.agent = (
            None if self.runtime is None else LaneAgent(self.runtime, state_dir=f"{self.place.directory}/turnlane")
        )

    def options(self, conversation: str, **others: Any) -> ClaudeAgentOptions:
        """Return what each turn of a conversation is asked for with."""
        settings: dict[str, Any] = {
            "session_id": session_of(conversation),
            "cwd": self.place.directory,
            "env": self.api.environment(self.place.directory),
            "model": "claude-sonnet-4-5",
            "tools": [],
            "setting_sources": [],
            "include_partial_messages": True,
        }
        return ClaudeAgentOptions(**{**settings, **others})

    def file(self, conversation: str) -> Path:
        """Return where the session is stored."""
        env = self.api.environment(self.place.directory)
        found = session_file(session_of(conversation), cwd=self.place.directory, env=env)
        assert found is not None
        return found

    def messages(self, conversation: str, text: str) -> AsyncGenerator[Message, None]:
        """Yield what the program tells of its answer to a message."""
        if self.agent is None:
            return self._alone(conversation, text)
        return self.agent.query(prompt=text, options=self.options(conversation))

    async def _alone(self, conversation: str, text: str) -> AsyncGenerator[Message, None]:
        """Begin a session, or resume it, as its users do: by whether there is a file."""
        session = session_of(conversation)
        options = self.options(conversation)
        while True:
            if self.file(conversation).exists():
                options = self.options(conversation, session_id=None, resume=session)
            messages = cast("AsyncGenerator[Message, None]", query(prompt=text, options=options))
            try:
                async with aclosing(messages):
                    async for message in messages:
                        yield message
                return
            except ProcessError:
                if options.resume:
                    raise  # else somebody else has begun it meanwhile

    async def answer(self, conversation: str, text: str) -> str:
        words: list[str] = []
        async with aclosing(self.messages(conversation, text)) as messages:
            async for message in messages:
                if isinstance(message, AssistantMessage):
                    words += [block.text for block in message.content if isinstance(block, TextBlock)]
        return "".join(words)

    async def stream(self, conversation: str, text: str) -> AsyncGenerator[str, None]:
        async with aclosing(self.messages(conversation, text)) as messages:
            async for message in messages:
                if isinstance(message, StreamEvent) and message.event["type"] == "content_block_delta":
                    yield message.event["delta"]["text"]

    async def history(self, conversation: str) -> list[Line]:
        with patch.dict(os.environ, self.api.environment(self.place.directory)):
            found = get_session_messages(session_of(conversation), directory=self.place.directory)
        return [Line(each.type, _text(each.message)) for each in found]


def _text(message: Any) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


RIG = ClaudeAgentSDK
