"""pydantic-ai: two messages of one conversation at once, as its documentation keeps conversations, and in turns.

pip install 'turnlane[pydantic-ai]'
python examples/integrations/pydantic_ai_turns.py
"""

import asyncio
import tempfile
from collections.abc import Sequence

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict, ConversationStore, InMemoryConversationStore
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from turnlane import Runtime, Transcripts
from turnlane_integrations.pydantic_ai import LaneAgent, TranscriptConversationStore

MESSAGES = ("my name is Ada", "who am I?")


def asked(messages: Sequence[ModelMessage]) -> list[str]:
    requests = [message for message in messages if isinstance(message, ModelRequest)]
    return [str(part.content) for each in requests for part in each.parts if isinstance(part, UserPromptPart)]


async def model(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    *before, text = asked(messages)
    print(f"  the model is called: {text}")
    await asyncio.sleep(0.1)  # so that the messages overlap
    return ModelResponse(parts=[TextPart(f"{text} I remember {before}")])


agent = Agent(FunctionModel(model))


async def as_documented(store: ConversationStore, text: str) -> str:
    conversation = await store.load("ada") or Conversation(conversation_id="ada")
    result = await agent.run(text, conversation=conversation)
    try:
        await store.save(result)
    except ConversationConflict:
        return f"{text} (answered, paid for, and not saved)"
    return result.output


async def main() -> None:
    print("without turns:")
    ephemeral = InMemoryConversationStore()
    for answer in await asyncio.gather(*(as_documented(ephemeral, text) for text in MESSAGES)):
        print(f"    {answer}")

    print("in turns:")
    with tempfile.TemporaryDirectory() as directory:
        async with Runtime() as runtime, Transcripts(f"sqlite:///{directory}/conversations.db") as transcripts:
            store = TranscriptConversationStore(transcripts)
            in_turns = LaneAgent(agent, runtime=runtime, store=store)
            for result in await asyncio.gather(*(in_turns.run(text, conversation_id="ada") for text in MESSAGES)):
                print(f"    {result.output}")
            stored = await store.load("ada")
            print(f"stored: {[] if stored is None else asked(stored.messages)}")


if __name__ == "__main__":
    asyncio.run(main())
