"""What the real OpenAI and Anthropic clients make of the middleware's answers."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anthropic
import openai
import pytest
from openai import AsyncOpenAI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from support.net_clients import anthropic_client, openai_client
from support.server_loopback import uvicorn_serving
from support.server_staged import Stage
from turnlane import Enqueue, Interrupt, LaneMiddleware, Lanes, Reject
from turnlane.cli.demo.model import Message
from turnlane.cli.demo.server import KEY_HEADER, create_app
from turnlane.cli.demo.storage import ConversationStorage
from turnlane.hooks import TurnInterruption, TurnQueued, TurnRefused
from turnlane.policies import Policy
from turnlane.testing import Gates, assert_no_leaks

pytestmark = [pytest.mark.sockets, pytest.mark.asyncio(loop_factories=["asyncio"])]

KEY = {KEY_HEADER: "agent:main:alice"}


class StagedModel:
    """Says "one", is at the place its message names, and says "two"."""

    name = "staged"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str, None]:
        yield "one"
        await self._stage.come_to(messages[-1]["content"])
        yield " two"

    async def aclose(self) -> None:
        """Nothing is open."""


class Counted:
    """Counts requests by the header `x-name`, before anything else sees them."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.requests: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            self.requests[headers.get(b"x-name", b"").decode()] += 1
        await self.app(scope, receive, send)


class Served:
    def __init__(self, port: int, stage: Stage, lanes: Lanes, counted: Counted) -> None:
        self.port = port
        self.stage = stage
        self.gates = Gates(lanes.hooks)
        self.requests = counted.requests


@asynccontextmanager
async def serving(tmp_path: Path, policy: Policy, **settings: Any) -> AsyncGenerator[Served, None]:
    stage, lanes = Stage(), Lanes("memory://")
    # One turn that somebody waited for: from now on it is known that turns are short, and Retry-After is 1.
    await asyncio.gather(*(pass_through(lanes) for _ in range(2)))
    app = create_app(StagedModel(stage), ConversationStorage(tmp_path))
    app.add_middleware(LaneMiddleware, key=KEY_HEADER, lanes=lanes, policy=policy, trusted_keys=True, **settings)
    counted = Counted(app)
    async with uvicorn_serving(counted) as port:
        yield Served(port, stage, lanes, counted)
    assert_no_leaks(lanes)


async def pass_through(lanes: Lanes) -> None:
    async with lanes.turn("warm-up"):
        await asyncio.sleep(0)


async def say(client: AsyncOpenAI, text: str) -> str | None:
    """Say something over chat completions; its text names the request and its place in the app."""
    answer = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": text}], extra_headers={**KEY, "x-name": text}
    )
    return answer.choices[0].message.content


async def respond(client: AsyncOpenAI, text: str) -> str:
    """Say something over responses."""
    answer = await client.responses.create(model="m", input=text, extra_headers={**KEY, "x-name": text})
    return answer.output_text


@pytest.mark.parametrize("say_it", [say, respond], ids=["chat", "responses"])
async def test_a_busy_lane_is_a_conflict_the_client_knows(tmp_path: Path, say_it: Any) -> None:
    """Code, message and Retry-After reach the caller; without retries it is asked once."""
    async with serving(tmp_path, Reject()) as served, openai_client(served.port) as client:
        served.stage.hold("a")
        first = asyncio.create_task(say(client, "a"))
        await served.stage.reached("a")
        with pytest.raises(openai.ConflictError) as caught:
            await say_it(client, "b")
        served.stage.let_go("a")
        assert await first == "one two"
    assert (caught.value.code, caught.value.type) == ("lane_busy", "conflict_error")
    assert "another message of this conversation is being answered" in caught.value.message
    assert caught.value.response.headers["retry-after"] == "1"
    assert served.requests == {"a": 1, "b": 1}


async def test_a_busy_lane_is_tried_again(tmp_path: Path) -> None:
    """With its own retries the client gets through once the lane is free: two requests, one reply."""
    async with serving(tmp_path, Reject()) as served, openai_client(served.port, max_retries=2) as client:
        served.stage.hold("a")
        first = asyncio.create_task(say(client, "a"))
        await served.stage.reached("a")
        second = asyncio.create_task(say(client, "b"))
        await served.gates.at(TurnRefused).reached()
        served.stage.let_go("a")
        assert await first == "one two"
        assert await second == "one two"
    assert served.requests == {"a": 1, "b": 2}
    assert served.stage.passed == ["a", "b"]


async def test_a_wait_that_was_too_long_is_tried_again_and_then_told(tmp_path: Path) -> None:
    """503 with a code, after as many requests as the client allows itself."""
    policy = Enqueue(wait_timeout=0.05)
    async with serving(tmp_path, policy) as served, openai_client(served.port, max_retries=1) as client:
        served.stage.hold("a")
        first = asyncio.create_task(say(client, "a"))
        await served.stage.reached("a")
        with pytest.raises(openai.InternalServerError) as caught:
            await say(client, "b")
        served.stage.let_go("a")
        await first
    assert (caught.value.status_code, caught.value.code) == (503, "wait_timeout")
    assert caught.value.response.headers["retry-after"] == "1"
    assert served.requests == {"a": 1, "b": 2}
    assert served.stage.passed == ["a"]


@pytest.mark.parametrize("say_it", [say, respond], ids=["chat", "responses"])
async def test_a_turn_that_was_interrupted_is_not_tried_again(tmp_path: Path, say_it: Any) -> None:
    """The running one and the superseded one each fail once, with a code and the turn that came instead."""
    policy = Interrupt(grace=0)
    async with serving(tmp_path, policy) as served, openai_client(served.port, max_retries=2) as client:
        served.stage.hold("a")
        first = asyncio.create_task(say_it(client, "a"))
        await served.stage.reached("a")
        assert await say(client, "b") == "one two"
        with pytest.raises(openai.ConflictError) as caught:
            await first
    assert caught.value.code == "turn_interrupted"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.response.json()["into"].startswith("turn-")
    assert served.requests == {"a": 1, "b": 1}
    assert served.stage.passed == ["a", "b"]


async def test_a_turn_that_was_superseded_while_it_waited_is_not_tried_again(tmp_path: Path) -> None:
    """It never ran, and its client is told at once."""
    policy = Interrupt(grace=30)
    async with serving(tmp_path, policy) as served, openai_client(served.port, max_retries=2) as client:
        served.stage.hold("a")
        first = asyncio.create_task(say(client, "a"))
        await served.stage.reached("a")
        second = asyncio.create_task(say(client, "b"))
        await served.gates.at(TurnQueued).reached()
        third = asyncio.create_task(say(client, "c"))
        with pytest.raises(openai.ConflictError) as caught:
            await second
        served.stage.let_go("a")
        assert await first == "one two"
        assert await third == "one two"
    assert caught.value.code == "turn_interrupted"
    assert served.requests == {"a": 1, "b": 1, "c": 1}
    assert served.stage.passed == ["a", "c"]


async def read_chat(client: AsyncOpenAI, text: str, pieces: list[str | None]) -> None:
    """Stream one reply over chat completions, to its end."""
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": text}], extra_headers={**KEY, "x-name": text}, stream=True
    )
    async for chunk in stream:
        pieces.append(chunk.choices[0].delta.content)  # noqa: PERF401  what came before an error is kept


async def read_responses(client: AsyncOpenAI, text: str, pieces: list[str | None]) -> None:
    """Stream one reply over responses, to its end."""
    headers = {**KEY, "x-name": text}
    stream = await client.responses.create(model="m", input=text, extra_headers=headers, stream=True)
    async for event in stream:
        if event.type == "response.output_text.delta":
            pieces.append(event.delta)  # noqa: PERF401  what came before an error is kept


@pytest.mark.parametrize("read", [read_chat, read_responses], ids=["chat", "responses"])
async def test_an_interrupted_stream_raises_in_the_client(tmp_path: Path, read: Any) -> None:
    """What came before is kept, then the client raises with the code, and asks no second time."""
    policy = Interrupt(grace=0)
    async with serving(tmp_path, policy) as served, openai_client(served.port, max_retries=2) as client:
        served.stage.hold("a")
        pieces: list[str | None] = []
        first = asyncio.create_task(read(client, "a", pieces))
        await served.stage.reached("a")
        assert await say(client, "b") == "one two"
        with pytest.raises(openai.APIError) as caught:
            await first
    assert [piece for piece in pieces if piece] == ["one"]
    assert caught.value.code == "turn_interrupted"
    assert served.requests == {"a": 1, "b": 1}


async def test_a_turn_that_took_too_long_is_not_tried_again(tmp_path: Path) -> None:
    """504 with a code, once; the next message gets its reply."""
    limits = {"turn_timeout": 1.0}  # the next turn is to be well within it, with its threads and its file
    async with serving(tmp_path, Enqueue(), **limits) as served, openai_client(served.port, max_retries=2) as client:
        served.stage.hold("a")
        with pytest.raises(openai.InternalServerError) as caught:
            await say(client, "a")
        assert await say(client, "b") == "one two"
    assert (caught.value.status_code, caught.value.code) == (504, "turn_timeout")
    assert served.requests == {"a": 1, "b": 1}


def anthropic_app(stage: Stage) -> Starlette:
    """Return a server with just enough of `/v1/messages` for the client to stream one reply."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    begun: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "usage": usage,
    }
    begin: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**begun, "stop_reason": None, "stop_sequence": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]

    async def messages(request: Request) -> Response:
        await request.json()
        name = request.headers["x-name"]

        async def events() -> AsyncGenerator[str, None]:
            for event in begin:
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one"}}
            yield f"event: content_block_delta\ndata: {json.dumps(delta)}\n\n"
            await stage.come_to(name)
            for event in ({"type": "content_block_stop", "index": 0}, {"type": "message_stop"}):
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/messages", messages, methods=["POST"])])


@asynccontextmanager
async def serving_anthropic(policy: Policy) -> AsyncGenerator[Served, None]:
    stage, lanes = Stage(), Lanes("memory://")
    await asyncio.gather(*(pass_through(lanes) for _ in range(2)))
    app = anthropic_app(stage)
    app.add_middleware(LaneMiddleware, key=KEY_HEADER, lanes=lanes, policy=policy, trusted_keys=True)
    counted = Counted(app)
    async with uvicorn_serving(counted) as port:
        yield Served(port, stage, lanes, counted)
    assert_no_leaks(lanes)


async def ask_anthropic(client: anthropic.AsyncAnthropic, text: str) -> list[str]:
    """Stream one reply to its end; return the kinds of its events."""
    stream = await client.messages.create(
        model="m",
        max_tokens=10,
        messages=[{"role": "user", "content": text}],
        extra_headers={**KEY, "x-name": text},
        stream=True,
    )
    return [event.type async for event in stream]


async def test_an_interrupted_stream_raises_in_the_anthropic_client() -> None:
    """The event that ends the stream is one this client knows too."""
    async with serving_anthropic(Interrupt(grace=0)) as served, anthropic_client(served.port, max_retries=2) as client:
        served.stage.hold("a")
        first = asyncio.create_task(ask_anthropic(client, "a"))
        await served.stage.reached("a")
        second = asyncio.create_task(ask_anthropic(client, "b"))
        await served.gates.at(TurnInterruption).reached()
        with pytest.raises(anthropic.APIError) as caught:
            await first
        assert (await second)[-1] == "message_stop"
    assert cast("Any", caught.value.body)["error"]["code"] == "turn_interrupted"
    assert "a newer message of this conversation took the place of this one" in str(caught.value)
    assert served.requests == {"a": 1, "b": 1}


async def test_refusals_are_errors_the_anthropic_client_knows() -> None:
    """409 and its kind and message; it is tried again, since the answer says when."""
    async with serving_anthropic(Reject()) as served, anthropic_client(served.port, max_retries=1) as client:
        served.stage.hold("a")
        first = asyncio.create_task(ask_anthropic(client, "a"))
        await served.stage.reached("a")
        with pytest.raises(anthropic.ConflictError) as caught:
            await ask_anthropic(client, "b")
        served.stage.let_go("a")
        await first
    assert cast("Any", caught.value.body)["error"]["type"] == "conflict_error"
    assert served.requests == {"a": 1, "b": 2}
