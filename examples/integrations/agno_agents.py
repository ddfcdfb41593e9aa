"""agno: two messages of one session at once, with the agent's own method and with `LaneRunner`.

The model is scripted, all else is agno; sessions are in SQLite. Run it: it ends by itself.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from agno.agent import Agent
from agno.db.sqlite import SqliteDb
from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse

from turnlane import Runtime
from turnlane_integrations.agno import LaneRunner

TEXTS = ("my name is Ada", "who am I?")


@dataclass
class Scripted(Model):
    id: str = "scripted"

    async def ainvoke(self, messages: list[Message], *args: Any, **kwargs: Any) -> ModelResponse:
        asked = [message for message in messages if message.role == "user"]
        await asyncio.sleep(0.2)  # stands for the model's time
        return ModelResponse(role="assistant", content=f"was answered knowing {len(asked) - 1} messages before it")

    # What this example does not ask of a model, but agno of its class.
    def invoke(self, *args: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError

    def invoke_stream(self, *args: Any, **kwargs: Any) -> Iterator[ModelResponse]:
        raise NotImplementedError

    def ainvoke_stream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ModelResponse]:
        raise NotImplementedError

    def _parse_provider_response(self, response: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        raise NotImplementedError


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        db = SqliteDb(db_file=f"{directory}/agno.db")
        agent: Any = Agent(model=Scripted(), db=db, add_history_to_context=True, telemetry=False)

        for result in await asyncio.gather(*(agent.arun(text, session_id="alone") for text in TEXTS)):
            print(f"Agent: {result.input.input_content!r} {result.content}")

        async with Runtime() as runtime:
            runner = LaneRunner(runtime)  # the one line, and `runner.arun(agent, ...)` for `agent.arun(...)`
            runs = [runner.arun(agent, text, session_id="in lanes") for text in TEXTS]
            for result in await asyncio.gather(*runs):
                print(f"LaneRunner: {result.input.input_content!r} {result.content}")
        db.close()


if __name__ == "__main__":
    asyncio.run(main())
