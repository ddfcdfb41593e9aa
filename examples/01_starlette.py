"""A Starlette agent server made safe by one line.

Run it to send messages at once and see what happened; with --serve it stays on port 8000 (needs uvicorn).
"""

import asyncio
import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from turnlane import LaneMiddleware
from turnlane.testing import AsgiDriver

KEY = "x-session-key"


async def ask_model(text: str) -> str:
    await asyncio.sleep(0.5)  # stands for the model's time
    return text.upper()


async def chat(request: Request) -> PlainTextResponse:
    text = (await request.body()).decode()
    events: list[str] = request.app.state.events
    events.append(f"{text} begins")
    reply = await ask_model(text)
    events.append(f"{text} ends")
    return PlainTextResponse(reply)


app = Starlette(routes=[Route("/chat", chat, methods=["POST"])])
app.state.events = []
app.add_middleware(LaneMiddleware, key=KEY)  # the one line


async def check() -> None:
    async with AsgiDriver(app) as client:
        first = client.start("POST", "/chat", headers={KEY: "alice"}, body=b"hello")
        second = client.start("POST", "/chat", headers={KEY: "alice"}, body=b"are you there?")
        other = client.start("POST", "/chat", headers={KEY: "bob"}, body=b"good morning")
        replies = [await request.response() for request in (first, second, other)]
    print("order:", *app.state.events, sep="\n  ")
    for name, reply in zip(("alice", "alice", "bob"), replies, strict=True):
        print(f"{name} waited {reply.headers['x-turnlane-waited-ms']} ms for {reply.text!r}")


if __name__ == "__main__":
    if "--serve" in sys.argv[1:]:
        import uvicorn

        uvicorn.run(app, port=8000)
    else:
        asyncio.run(check())
