"""Streams for the real clients: an app that answers as OpenAI and Anthropic do, and who asks it in other processes."""

import asyncio
import json
import os
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from support.server_loopback import uvicorn_serving
from turnlane import KeepAlive, LaneMiddleware, Lanes
from turnlane.testing import assert_no_leaks

__all__ = ("CLIENTS", "KEY", "Overheard", "command_of", "outcomes_of", "scenario", "serving_streams")

KEY = "x-session-key"
CLIENTS = ("openai", "openai of an older major version", "openai for Node", "anthropic")
PLACE = "TURNLANE_CLIENTS"  # where `.ci/clients` has put what is not in the environment of the tests
HERE = Path(__file__).parent


class Overheard:
    """Stands outermost: counts requests and comment lines by session key, and tells when there are enough."""

    def __init__(self, app: ASGIApp) -> None:
        self.requests: Counter[str] = Counter()
        self.comments: Counter[str] = Counter()
        self._app = app
        self._waiting: dict[str, list[tuple[int, asyncio.Event]]] = defaultdict(list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on, and listen."""
        key = dict(scope.get("headers", ())).get(KEY.encode(), b"").decode()
        if scope["type"] == "http":
            self.requests[key] += 1

        async def overhear(message: Message) -> None:
            await send(message)
            if message.get("body") == b": queued\n":
                self.comments[key] += 1
                for count, event in self._waiting[key]:
                    if self.comments[key] >= count:
                        event.set()

        await self._app(scope, receive, overhear)

    async def heard(self, key: str, count: int) -> None:
        """Wait until so many comment lines were sent to requests of a key."""
        event = asyncio.Event()
        if self.comments[key] < count:
            self._waiting[key].append((count, event))
            async with asyncio.timeout(15):
                await event.wait()


def events_of(path: str) -> list[str]:
    """Return the events of a stream that says "one" and " two": OpenAI's with ids, Anthropic's with names."""
    if path == "/v1/chat/completions":
        chunk: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        words = [{"index": 0, "delta": {"role": "assistant", "content": word}} for word in ("one", " two")]
        chunks = [json.dumps({**chunk, "choices": [word]}) for word in words]
        return [f"id: {number}\ndata: {data}\n\n" for number, data in enumerate([*chunks, "[DONE]"])]
    usage = {"input_tokens": 1, "output_tokens": 1}
    message: dict[str, Any] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "usage": usage,
    }
    delta = {"type": "content_block_delta", "index": 0}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({**delta, "delta": {"type": "text_delta", "text": word}} for word in ("one", " two")),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]


class AppFailed(Exception):
    """What the app raises where it is asked to fail."""


async def answer(request: Request) -> Response:
    """Answer as the session key says: it is the name of a scenario."""
    name = request.headers[KEY]
    if name == "an error of the app":
        error = {
            "message": "no such model",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
        return JSONResponse({"error": error}, 404)
    if name == "a failure of the app":
        raise AppFailed
    return StreamingResponse(iter(events_of(request.url.path)), media_type="text/event-stream")


class Forgiving:
    """Lets no failure of the app get to the server's log; outermost but one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on."""
        try:
            await self._app(scope, receive, send)
        except AppFailed:
            return


@asynccontextmanager
async def serving_streams(keepalive: KeepAlive | None, **settings: Any) -> AsyncGenerator[tuple[int, Lanes, Overheard]]:
    """Serve streams behind lanes inside the block; yields the port, the lanes, and who listens."""
    lanes = Lanes("memory://")
    routes = [Route(path, answer, methods=["POST"]) for path in ("/v1/chat/completions", "/v1/messages")]
    app = Starlette(routes=routes)
    app.add_middleware(LaneMiddleware, key=KEY, lanes=lanes, trusted_keys=True, keepalive=keepalive, **settings)
    overheard = Overheard(Forgiving(app))
    async with uvicorn_serving(overheard) as port:
        yield port, lanes, overheard
    assert_no_leaks(lanes)


def scenario(name: str, *, max_retries: int = 2, **headers: str) -> str:
    """Return what one client is told to do: its session key is its name."""
    named = {header.replace("_", "-"): value for header, value in headers.items()}
    return json.dumps({"name": name, "headers": {KEY: name, **named}, "max_retries": max_retries})


def command_of(client: str) -> list[str]:
    """Return the command that runs a client; what is missing is a skip here and a failure on CI."""
    script = str(HERE / "client_streams.py")
    if client in ("openai", "anthropic"):
        return [sys.executable, script, client]
    place = os.environ.get(PLACE)
    node = shutil.which("node")
    missing = f"{client} is not there: bash .ci/clients DIRECTORY, then {PLACE}=DIRECTORY"
    if place is None or (client == "openai for Node" and node is None):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    if client == "openai for Node":
        return [str(node), str(HERE / "client_streams.mjs"), str(Path(place) / "node")]
    return [str(Path(place) / "openai-1" / "bin" / "python"), script, "openai"]


async def outcomes_of(command: Sequence[str], port: int, *scenarios: str) -> dict[str, dict[str, Any]]:
    """Run a client; return what came of each scenario, by its name."""
    process = await asyncio.create_subprocess_exec(
        *command, str(port), *scenarios, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(50):
            said, wrong = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, wrong.decode()
    return {outcome["name"]: outcome for outcome in map(json.loads, said.decode().splitlines())}
