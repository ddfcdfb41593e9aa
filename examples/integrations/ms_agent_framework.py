"""An agent of Microsoft's agent-framework, and two messages of one session at once: without lanes it mixes them up.

Run it with `pip install 'turnlane[agent-framework]'`; it needs no network and no model.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, Awaitable, Mapping, Sequence
from typing import Any

from agent_framework import (
    Agent,
    AgentMiddleware,
    AgentSession,
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    InMemoryHistoryProvider,
    Message,
    ResponseStream,
)

from turnlane import Runtime
from turnlane_integrations.agent_framework import LaneAgentMiddleware


class Model(BaseChatClient[Any]):
    """Stands for one that is asked over the network."""

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **kwargs: Any
    ) -> Awaitable[ChatResponse] | ResponseStream[ChatResponseUpdate, ChatResponse]:
        known = [message.text for message in messages if message.role == "user"][:-1]
        if stream:
            return self._build_response_stream(self._words(known))
        return self._whole(known)

    async def _whole(self, known: list[str]) -> ChatResponse:
        await asyncio.sleep(0.2)
        return ChatResponse(messages=Message("assistant", [f"I knew {known}"]))

    async def _words(self, known: list[str]) -> AsyncIterable[ChatResponseUpdate]:
        for word in ("I knew ", str(known)):
            await asyncio.sleep(0.2)
            yield ChatResponseUpdate(contents=[Content.from_text(word)], role="assistant")


async def converse(middleware: list[AgentMiddleware]) -> None:
    agent = Agent(Model(), context_providers=[InMemoryHistoryProvider("history")], middleware=middleware)
    session = AgentSession(session_id="ada")

    async def streamed(text: str) -> None:
        words = [update.text async for update in agent.run(text, session=session, stream=True)]
        print(f"  {text!r} -> {''.join(words)!r}")

    async def whole(text: str) -> None:
        print(f"  {text!r} -> {(await agent.run(text, session=session)).text!r}")

    await asyncio.gather(streamed("my name is Ada"), whole("I live in London"))
    print(f"  stored: {[message.text for message in session.state['history']['messages'] if message.role == 'user']}")


async def main() -> None:
    logging.getLogger("agent_framework").setLevel(logging.ERROR)  # the model calls no tools
    print("without lanes")
    await converse([])
    async with Runtime() as runtime:
        print("with lanes")
        await converse([LaneAgentMiddleware(runtime)])


asyncio.run(main())
