"""llama-index: two messages of one conversation at once. Run it to see each caller get the answer to its own.

Not called `llama_index.py`: Python would take it for the package.
"""

import asyncio
from typing import Any

from llama_index.core.agent.workflow import AgentStream, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ChatResponseAsyncGen
from llama_index.core.llms import MockLLM
from llama_index.core.memory import Memory
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore
from sqlalchemy.ext.asyncio import create_async_engine

from turnlane import Runtime
from turnlane_integrations.llama_index import LaneRunner


class Scripted(MockLLM):
    """Answers the last message of a person, instead of asking a real model."""

    async def astream_chat(self, messages: Any, **kwargs: Any) -> ChatResponseAsyncGen:
        asked = [message.content for message in messages if message.role.value == "user"]

        async def answer() -> ChatResponseAsyncGen:
            await asyncio.sleep(0.2)
            whole = f"Thought: I can answer without using any more tools.\nAnswer: {asked[-1]}? Surely."
            yield ChatResponse(message=ChatMessage(role="assistant", content=whole), delta=whole)

        return answer()


async def main() -> None:
    engine = create_async_engine("sqlite+aiosqlite:///:memory:")
    store = SQLAlchemyChatStore("messages", async_engine=engine)
    await store.get_keys()  # makes the table: llama-index does it at first use, and two of them at once fail
    agent: Any = ReActAgent(llm=Scripted(max_tokens=None))
    sent = ("is it far", "is it cold")

    def memory_of(conversation: str) -> Memory:
        return Memory(session_id=conversation, token_limit=30_000, sql_store=store)

    async def show_stored(conversation: str) -> None:
        for message in await memory_of(conversation).aget_all():
            print(f"  {message.role.value}: {(message.content or '').splitlines()[-1]}")

    async def alone(text: str) -> str:
        return str(await agent.run(user_msg=text, memory=memory_of("ada")))

    print("llama-index alone:")
    for text, answer in zip(sent, await asyncio.gather(*(alone(text) for text in sent)), strict=True):
        print(f"  who asked {text!r} got {answer!r}")
    await show_stored("ada")

    async with Runtime() as runtime:
        runner = LaneRunner(runtime)

        async def streamed(text: str) -> str:
            async with runner.run_streamed(agent, user_msg=text, memory=memory_of("bob")) as handler:
                words = [event.delta async for event in handler.stream_events() if isinstance(event, AgentStream)]
                await handler
            return "".join(words).partition("Answer: ")[2]

        print("in lanes:")
        whole = runner.run(agent, user_msg=sent[0], memory=memory_of("bob"))
        for text, answer in zip(sent, await asyncio.gather(whole, streamed(sent[1])), strict=True):
            print(f"  who asked {text!r} got {str(answer)!r}")
        await show_stored("bob")
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
