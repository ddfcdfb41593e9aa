"""The agent server behind `turnlane demo`: OpenAI chat completions and responses, streaming and not.

The server itself is in `turnlane.cli.demo.server`; with OPENAI_BASE_URL set, that model answers (OPENAI_MODEL,
OPENAI_API_KEY), else a scripted one that says what it was given.

Run it to send messages at once and see what happened; with --serve it stays on port 8000.
"""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import FastAPI
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from turnlane import Runtime
from turnlane.cli.demo.host import LoopbackServer
from turnlane.cli.demo.model import model_from_environment
from turnlane.cli.demo.server import KEY_HEADER, create_protected_app
from turnlane.cli.demo.storage import ConversationStorage


def build(directory: Path) -> FastAPI:
    runtime = Runtime(lanes="memory://", sessions=f"sqlite:///{directory / 'sessions.db'}")
    return create_protected_app(model_from_environment(), ConversationStorage(directory), runtime=runtime)


async def check(url: str) -> None:
    headers = {KEY_HEADER: "agent:main:ada"}
    http = DefaultAsyncHttpxClient(trust_env=False)  # loopback: no proxy between
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", http_client=http) as client:

        async def second() -> str:
            answer = await client.responses.create(model="demo", input="who am I?", extra_headers=headers)
            return answer.output_text

        chunks = await client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "my name is Ada"}],
            extra_headers=headers,
            stream=True,
        )
        overlapping: asyncio.Task[str] | None = None
        text = ""
        async for chunk in chunks:
            # The first words are here: the turn runs, and now comes the second message.
            overlapping = overlapping or asyncio.create_task(second())
            text += chunk.choices[0].delta.content or ""
        print("first: ", text)
        if overlapping is not None:
            print("second:", await overlapping)


def main() -> None:
    with TemporaryDirectory(prefix="turnlane-example-") as directory:
        app = build(Path(directory).resolve())
        if "--serve" in sys.argv[1:]:
            import uvicorn

            uvicorn.run(app, port=8000)
            return
        with LoopbackServer(app) as server:
            asyncio.run(check(server.url))


if __name__ == "__main__":
    main()
