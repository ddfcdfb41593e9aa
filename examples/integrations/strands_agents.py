"""strands: two messages of one conversation at once. Run it to see strands alone lose one, and lanes keep both.

Not called `strands.py`: Python would take it for the package.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from typing import Any

from strands import Agent
from strands.models import Model
from strands.session.file_session_manager import FileSessionManager
from strands.types.content import Messages

from turnlane import Runtime
from turnlane_integrations.strands import LaneAgents


class Scripted(Model):
    """Says how much it has been told, instead of asking a real model."""

    def update_config(self, **model_config: Any) -> None: ...

    def get_config(self) -> None: ...

    def structured_output(self, *args: Any, **kwargs: Any) -> Any: ...

    async def stream(self, messages: Messages, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        told = [message["content"][0].get("text") for message in messages if message["role"] == "user"]
        await asyncio.sleep(0.2)
        yield {"messageStart": {"role": "assistant"}}
        for word in f"you told me {told}".split(" "):
            yield {"contentBlockDelta": {"delta": {"text": f"{word} "}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


def sessions_of(session_id: str, directory: str) -> FileSessionManager:
    return FileSessionManager(session_id, storage_dir=directory)


def show_stored(session_id: str, directory: str) -> None:
    for stored in sessions_of(session_id, directory).list_messages(session_id, "guide"):
        print(f"  {stored.message['role']}: {stored.message['content'][0].get('text', '').strip()}")


async def main(directory: str) -> None:
    def make_agent(session_id: str) -> Agent:
        sessions = sessions_of(session_id, directory)
        return Agent(Scripted(), agent_id="guide", session_manager=sessions, callback_handler=None)

    print("strands alone:")
    await asyncio.gather(*(make_agent("ada").invoke_async(text) for text in ("I am Ada", "I live in London")))
    show_stored("ada", directory)

    async with Runtime() as runtime:
        agents = LaneAgents(runtime, make_agent)

        async def streamed(session_id: str, text: str) -> str:
            return "".join([event.get("data", "") async for event in agents.stream_async(session_id, text)])

        print("in lanes:")
        result, words = await asyncio.gather(agents.invoke_async("bob", "I am Bob"), streamed("bob", "I live in Paris"))
        show_stored("bob", directory)
        print(f"the callers got: {str(result).strip()!r} and {words.strip()!r}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(place))
