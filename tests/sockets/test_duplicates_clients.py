"""The real OpenAI client against a real server: a time-out and the client's own retry run the turn once."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from support.net_clients import openai_client
from support.server_loopback import uvicorn_serving
from turnlane import LaneMiddleware, Lanes
from turnlane.duplicates import Duplicates
from turnlane.hooks import DuplicateRefused
from turnlane.testing import assert_no_leaks

pytestmark = [pytest.mark.sockets, pytest.mark.timeout(60), pytest.mark.asyncio(loop_factories=["asyncio"])]

SESSION = {"x-session-key": "agent:main:alice"}
PATIENCE = 1.5  # seconds the client gives each attempt


class Server:
    """Answers chat completions when it is told to, counts what came and what ran."""

    def __init__(self) -> None:
        self.attempts: list[str] = []
        self.runs = 0
        self.go = asyncio.Event()
        self.arrived = asyncio.Condition()
        self.refused = asyncio.Event()

    async def chat(self, request: Request) -> Response:
        """Run a turn."""
        self.runs += 1
        run, asked = self.runs, await request.json()
        await self.go.wait()
        if asked.get("stream"):
            return StreamingResponse(iter(["data: [DONE]\n\n"]), media_type="text/event-stream")
        message = {"role": "assistant", "content": f"run {run}"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return JSONResponse({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})

    async def attempt(self, count: int) -> None:
        """Wait until so many attempts have arrived."""
        async with asyncio.timeout(20), self.arrived:
            await self.arrived.wait_for(lambda: len(self.attempts) >= count)

    def counting(self, app: Any) -> Any:
        """Count attempts before anything else sees them."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                async with self.arrived:
                    self.attempts.append(dict(scope["headers"])[b"x-stainless-retry-count"].decode())
                    self.arrived.notify_all()
            await app(scope, receive, send)

        return counted


@asynccontextmanager
async def serving(server: Server, **settings: Any) -> AsyncGenerator[int, None]:
    lanes = Lanes()
    lanes.hooks.on(DuplicateRefused, lambda _: server.refused.set())
    # One turn that somebody waited for: from now on it is known that turns are short, and Retry-After is 1.
    await asyncio.gather(*(pass_through(lanes) for _ in range(2)))
    app = Starlette(routes=[Route("/v1/chat/completions", server.chat, methods=["POST"])])
    app.add_middleware(LaneMiddleware, key="x-session-key", lanes=lanes, trusted_keys=True, **settings)
    async with uvicorn_serving(server.counting(app)) as port:
        yield port
        server.go.set()
    assert_no_leaks(lanes)


async def pass_through(lanes: Lanes) -> None:
    async with lanes.turn("warm-up"):
        await asyncio.sleep(0)


async def say(client: openai.AsyncOpenAI, text: str = "hello", *, stream: bool = False, **headers: str) -> str:
    """Say something, and return what came back."""
    asked: Any = client.chat.completions.create
    answer = await asked(
        model="m", messages=[{"role": "user", "content": text}], stream=stream, extra_headers={**SESSION, **headers}
    )
    return str(answer.choices[0].message.content)


async def test_without_the_rule_a_retry_runs_the_turn_twice() -> None:
    """The control: what the rule is for."""
    server = Server()
    async with serving(server) as port, openai_client(port, max_retries=1, timeout=PATIENCE) as client:
        asking = asyncio.create_task(say(client))
        await server.attempt(2)
        server.go.set()
        assert await asking == "run 2"
    assert (server.runs, server.attempts) == (2, ["0", "1"])


@pytest.mark.parametrize("on_disconnect", ["pass", "finish"])
async def test_a_retry_waits_for_the_turn_and_gets_its_answer(on_disconnect: str) -> None:
    """The first attempt timed out; the turn runs once, and the caller sees nothing of it."""
    server, duplicates = Server(), Duplicates(retries=True, while_running="wait")
    async with (
        serving(server, idempotency=duplicates, on_disconnect=on_disconnect) as port,
        openai_client(port, max_retries=2, timeout=PATIENCE) as client,
    ):
        asking = asyncio.create_task(say(client))
        await server.attempt(2)
        server.go.set()
        assert await asking == "run 1"
    assert (server.runs, server.attempts) == (1, ["0", "1"])


async def test_a_retry_that_is_refused_while_the_turn_runs_gets_the_answer_at_the_next() -> None:
    """409 with Retry-After is understood by the client, which comes again."""
    server, duplicates = Server(), Duplicates(retries=True)
    async with (
        serving(server, idempotency=duplicates) as port,
        openai_client(port, max_retries=2, timeout=PATIENCE) as client,
    ):
        asking = asyncio.create_task(say(client))
        await server.refused.wait()
        server.go.set()
        assert await asking == "run 1"
    assert (server.runs, server.attempts) == (1, ["0", "1", "2"])


async def test_a_message_that_is_sent_twice_on_purpose_runs_twice() -> None:
    """Equal messages that are no retries."""
    server, duplicates = Server(), Duplicates(retries=True, while_running="wait")
    server.go.set()
    async with serving(server, idempotency=duplicates) as port, openai_client(port) as client:
        assert [await say(client, "yes") for _ in range(2)] == ["run 1", "run 2"]


async def test_a_retry_of_a_stream_is_refused_and_not_tried_again() -> None:
    """The caller gets a conflict that names the reason."""
    server, duplicates = Server(), Duplicates(retries=True, while_running="wait")
    async with (
        serving(server, idempotency=duplicates) as port,
        openai_client(port, max_retries=2, timeout=PATIENCE) as client,
    ):
        with pytest.raises(openai.ConflictError) as caught:
            await say(client, stream=True)
        server.go.set()
    assert caught.value.code == "duplicate_stream"
    assert (server.runs, server.attempts) == (1, ["0", "1"])


async def test_an_idempotency_key_is_sent_with_the_client() -> None:
    """As an extra header of the call; a body that differs is the client's own 422."""
    server = Server()
    server.go.set()
    async with serving(server, idempotency="memory://") as port, openai_client(port) as client:
        key: dict[str, Any] = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
        assert [await say(client, **key) for _ in range(2)] == ["run 1", "run 1"]
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            await say(client, "another", **key)
    assert caught.value.code == "idempotency_key_reused"
    assert server.runs == 1
