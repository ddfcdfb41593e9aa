"""google-adk: two messages of one session at once, with ADK's runner and with `LaneRunner`.

The model is scripted, all else is ADK; sessions are in SQLite. Run it: it ends by itself.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator

from google.adk.agents import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai.types import Content, Part

from turnlane import Runtime
from turnlane_integrations.google_adk import LaneRunner

APP, USER = "example", "ada"
TEXTS = ("my name is Ada", "who am I?")


class Model(BaseLlm):
    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        asked = [content for content in llm_request.contents if content.role == "user"]
        await asyncio.sleep(0.5)  # stands for the model's time
        text = f"was answered knowing {len(asked) - 1} messages before it"
        yield LlmResponse(content=Content(role="model", parts=[Part(text=text)]))


async def ask(runner: Runner, session: str, text: str) -> str:
    message = Content(role="user", parts=[Part(text=text)])
    events = runner.run_async(user_id=USER, session_id=session, new_message=message)
    return "".join(
        [part.text or "" async for event in events for part in (event.content and event.content.parts) or []]
    )


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        sessions = SqliteSessionService(f"{directory}/sessions.db")
        for session in ("alone", "in lanes"):
            await sessions.create_session(app_name=APP, user_id=USER, session_id=session)
        agent = LlmAgent(name="example", model=Model(model="scripted"))

        runner = Runner(app_name=APP, agent=agent, session_service=sessions)
        found = await asyncio.gather(*(ask(runner, "alone", text) for text in TEXTS), return_exceptions=True)
        in_turn = all(f"knowing {n} messages" in str(each) for n, each in enumerate(found))  # mostly one is refused
        print(f"Runner: {'each knows the one before it' if in_turn else 'one is refused, or not told of the other'}")

        async with Runtime() as runtime:
            lanes = LaneRunner(runtime=runtime, app_name=APP, agent=agent, session_service=sessions)  # the one line
            answers = await asyncio.gather(*(ask(lanes, "in lanes", text) for text in TEXTS))
        for text, answer in zip(TEXTS, answers, strict=True):
            print(f"LaneRunner: {text!r} {answer}")

        stored = await sessions.get_session(app_name=APP, user_id=USER, session_id="in lanes")
        events = stored.events if stored else []
        parts = [
            part for event in events if event.author == "user" for part in (event.content and event.content.parts) or []
        ]
        print(f"stored: {[part.text for part in parts]}")


if __name__ == "__main__":
    asyncio.run(main())
