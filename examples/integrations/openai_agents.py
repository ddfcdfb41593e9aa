"""openai-agents: two messages of one conversation at once. Run it: first as the framework is, then one after the other.

The model is scripted; all else is real. Needs `turnlane[openai-agents]`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, Runner, SQLiteSession, Usage
from agents.items import TResponseStreamEvent
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from turnlane import Runtime
from turnlane_integrations.openai_agents import LaneRunner


class Counting(Model):
    """Stands for a model: takes its time, and says how much of the conversation it was shown."""

    async def get_response(self, *args: Any, **asked: Any) -> ModelResponse:
        known = sum(1 for item in asked["input"] if item.get("role") == "user")
        await asyncio.sleep(0.2)
        text = f"I know {known} message{'s' if known > 1 else ''}"
        content = ResponseOutputText(annotations=[], text=text, type="output_text")
        said = ResponseOutputMessage(id="m", content=[content], role="assistant", status="completed", type="message")
        return ModelResponse(output=[said], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        raise NotImplementedError


agent = Agent(name="Counting", model=Counting())
untraced = RunConfig(tracing_disabled=True)


async def show(name: str, runner: Any, session: SQLiteSession) -> None:
    """Ask twice at once, and print what the session holds afterwards."""
    asked = ("my name is Ada", "who am I?")
    await asyncio.gather(*(runner.run(agent, text, session=session, run_config=untraced) for text in asked))
    items: list[Any] = await session.get_items()
    print(f"{name}: {[text_of(item['content']) for item in items]}")


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else str(content[0]["text"])


async def main() -> None:
    with closing(SQLiteSession("ada")) as session:
        await show("Runner", Runner, session)
    async with Runtime() as runtime:
        with closing(SQLiteSession("ada")) as session:
            await show("LaneRunner", LaneRunner(runtime), session)


if __name__ == "__main__":
    asyncio.run(main())
