"""A FastAPI agent server with one session per session key: the second message waits and knows the first.

Run it to send messages at once and see what happened; with --serve it stays on port 8000 (needs uvicorn).
"""

import asyncio
import sys
from collections.abc import AsyncGenerator

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from turnlane import LaneMiddleware, Runtime
from turnlane.testing import AsgiDriver

KEY = "x-session-key"

runtime = Runtime(lanes="memory://", sessions="memory://")  # sqlite:///sessions.db keeps ids over a restart
app = FastAPI(lifespan=runtime.lifespan)
# On loopback everybody is trusted; a public server has key=keys.scoped_by(principal, KEY) instead.
app.add_middleware(LaneMiddleware, key=KEY, runtime=runtime, trusted_keys=True)
histories: dict[str, list[str]] = {}  # by session id


async def ask_model(text: str, history: list[str]) -> AsyncGenerator[str, None]:
    for word in f"{text}? I remember {history}".split(" "):
        await asyncio.sleep(0.03)  # stands for the model's time
        yield f"{word} "


@app.post("/chat")
async def chat(request: Request) -> StreamingResponse:
    text = (await request.body()).decode()
    session = request.state.turn.session
    history = histories.setdefault(session.id, [])

    async def reply() -> AsyncGenerator[str, None]:
        async for piece in ask_model(text, list(history)):
            yield piece
        history.append(text)  # the lane is held until the stream has ended

    return StreamingResponse(reply(), media_type="text/plain")


async def check() -> None:
    async with AsgiDriver(app) as client, client.lifespan():
        texts = ("my name is Ada", "I live in London", "who am I")
        requests = [client.start("POST", "/chat", headers={KEY: "ada"}, body=text.encode()) for text in texts]
        replies = [await request.response() for request in requests]
    for reply in replies:
        waited = reply.headers["x-turnlane-waited-ms"]
        print(f"session {reply.headers['x-session-id']} waited {waited} ms: {reply.text}")
    print(f"session ids: {len(histories)}")


if __name__ == "__main__":
    if "--serve" in sys.argv[1:]:
        import uvicorn

        uvicorn.run(app, port=8000)
    else:
        asyncio.run(check())
