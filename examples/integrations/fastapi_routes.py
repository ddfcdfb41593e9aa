"""Lanes for a single route of a FastAPI server: the second message waits until the first stream has ended."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import Body, FastAPI
from fastapi.responses import StreamingResponse

from turnlane import Runtime, Turn, errors
from turnlane.asgi import refuse
from turnlane.testing import AsgiDriver
from turnlane_integrations.fastapi import CurrentSession, lane

KEY = "x-session-key"

runtime = Runtime(sessions="memory://")
app = FastAPI(lifespan=runtime.lifespan)
app.add_exception_handler(errors.TurnlaneError, refuse)
happened: list[str] = []


@app.post("/chat")
async def chat(
    text: Annotated[str, Body()], turn: Annotated[Turn, lane(runtime, KEY)], session: CurrentSession
) -> StreamingResponse:
    async def reply() -> AsyncGenerator[str, None]:
        happened.append(f"begin {text}")
        for word in f"{text}? (position {turn.position}, session {session.id[:8]})".split(" "):
            await asyncio.sleep(0.03)  # stands for the model's time
            yield f"{word} "
        happened.append(f"end {text}")

    return StreamingResponse(reply(), media_type="text/plain")


@app.get("/status")
async def status() -> int:
    return runtime.lanes.statistics().running  # a route without a lane never waits


async def main() -> None:
    async with AsgiDriver(app) as client, client.lifespan():
        sent = [
            client.start("POST", "/chat", headers={KEY: "ada", "content-type": "application/json"}, body=body)
            for body in (b'"first"', b'"second"')
        ]
        for request in sent:
            print((await request.response()).text)
    whole = happened == ["begin first", "end first", "begin second", "end second"]
    print(f"turns one after the other: {'yes' if whole else 'no'}")


if __name__ == "__main__":
    asyncio.run(main())
