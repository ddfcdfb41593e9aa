"""A decorated FastAPI endpoint: what it shows, what it is given, and that its requests take turns."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from turnlane import LaneMiddleware, Runtime, Turn
from turnlane.hooks import TurnQueued
from turnlane.testing import AsgiDriver, Gates, assert_no_leaks


class Message(BaseModel):
    """What is posted."""

    text: str
    channel: str = "web"


class Bench:
    """An app with one decorated endpoint, and what happened in it."""

    def __init__(self) -> None:
        self.runtime = Runtime(sessions="memory://")
        self.seen: list[str] = []
        self.go = asyncio.Event()
        self.app = FastAPI(lifespan=self.runtime.lifespan)

        async def opened() -> AsyncGenerator[str, None]:
            self.seen.append("opened")
            yield "hello"
            self.seen.append("closed")

        @self.app.post("/chat", summary="Chat")
        @self.runtime.agent_turn(key="x_session_key")
        async def chat(
            request: Request,
            message: Message,
            x_session_key: Annotated[str, Header()],
            word: Annotated[str, Depends(opened)],
            loud: bool = False,
            *,
            turn: Turn,
        ) -> dict[str, Any]:
            """Answer one message."""
            self.seen.append(f"begin {message.text}")
            if message.text == "slow":
                await self.go.wait()
            self.seen.append(f"end {message.text}")
            assert turn.session is not None
            return {
                "key": turn.key,
                "session": turn.session.id,
                "reply": word.upper() if loud else word,
                "path": request.url.path,
                "channel": message.channel,
            }

        assert callable(chat)

    @staticmethod
    def post(driver: AsgiDriver, key: str | None, target: str = "/chat", **body: Any) -> Any:
        headers = {"content-type": "application/json"} | ({"x-session-key": key} if key is not None else {})
        return driver.start("POST", target, headers=headers, body=json.dumps(body).encode())


class TestEndpoint:
    """What FastAPI makes of it."""

    async def test_openapi_shows_all_arguments_but_the_turn(self) -> None:
        """Header, query and body with their types; the docstring is the description."""
        bench = Bench()
        operation = bench.app.openapi()["paths"]["/chat"]["post"]
        shown = {(each["name"], each["in"], each["schema"]["type"]) for each in operation["parameters"]}
        assert shown == {("x-session-key", "header", "string"), ("loud", "query", "boolean")}
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": "#/components/schemas/Message"}
        assert operation["description"] == "Answer one message."
        assert "turn" not in json.dumps(bench.app.openapi()).lower()

    async def test_body_query_header_request_and_dependency_are_injected(self) -> None:
        """And validated as ever; the dependency is open while the turn runs and closed after it."""
        bench = Bench()
        async with AsgiDriver(bench.app) as driver, driver.lifespan():
            response = await bench.post(driver, "ada", "/chat?loud=true", text="hi", channel="slack").response()
            assert response.status == 200
            assert bench.runtime.sessions is not None
            session = await bench.runtime.sessions.resolve("ada")
            assert response.json() == {
                "key": "ada",
                "session": session.id,
                "reply": "HELLO",
                "path": "/chat",
                "channel": "slack",
            }
            assert bench.seen == ["opened", "begin hi", "end hi", "closed"]
            wrong = await bench.post(driver, "ada", text=["not text"]).response()
            assert (wrong.status, wrong.json()["detail"][0]["loc"]) == (422, ["body", "text"])
            missing = await bench.post(driver, None, text="hi").response()
            assert (missing.status, missing.json()["detail"][0]["loc"]) == (422, ["header", "x-session-key"])

    async def test_requests_of_one_key_take_turns_and_others_do_not_wait(self) -> None:
        """The second begins when the first has ended; a stranger overtakes both."""
        bench = Bench()
        with Gates(bench.runtime.hooks) as gates:
            async with AsgiDriver(bench.app) as driver, driver.lifespan():
                first = bench.post(driver, "ada", text="slow")
                await first.until_idle()
                second = bench.post(driver, "ada", text="second")
                await gates.at(TurnQueued).reached()
                other = await bench.post(driver, "bob", text="other").response()
                bench.go.set()
                replies = [(await each.response()).json() for each in (first, second)]
        order = [each for each in bench.seen if each.startswith(("begin", "end"))]
        assert order == ["begin slow", "begin other", "end other", "end slow", "begin second", "end second"]
        assert replies[0]["session"] == replies[1]["session"] != other.json()["session"]
        assert_no_leaks(bench.runtime.lanes)

    async def test_behind_the_middleware_the_endpoint_joins_the_requests_turn(self) -> None:
        """One turn per request, not two; the session is the one the middleware resolved."""
        bench = Bench()
        bench.app.add_middleware(LaneMiddleware, key="x-session-key", runtime=bench.runtime, trusted_keys=True)
        async with AsgiDriver(bench.app) as driver:
            request = bench.post(driver, "ada", text="hi")
            response = await request.response()
            await request.finished()
        assert response.status == 200
        assert response.headers["x-session-id"] == response.json()["session"]
        assert bench.runtime.lanes.statistics().totals == {"completed": 1}

    async def test_a_starlette_endpoint_finds_its_key_in_the_request(self) -> None:
        """The callable is given the request, as the endpoint is."""
        runtime = Runtime()

        def key_of(request: Request) -> str | None:
            return request.headers.get("x-session-key")

        @runtime.agent_turn(key=key_of)
        async def endpoint(request: Request, *, turn: Turn) -> PlainTextResponse:
            return PlainTextResponse(f"{turn.key} {(await request.body()).decode()}")

        async with AsgiDriver(Starlette(routes=[Route("/", endpoint, methods=["POST"])])) as driver:
            response = await driver.start("POST", "/", headers={"x-session-key": "ada"}, body=b"hi").response()
        assert response.text == "ada hi"


def hears_of_disconnects(app: ASGIApp) -> ASGIApp:
    """Serve `app` as servers before ASGI 2.4 do: there Starlette listens for the client while it streams."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "asgi": {"version": "3.0", "spec_version": "2.3"}}, receive, send)

    return serve


class StreamBench:
    """An app that streams a generator turn; the generator's cleanup takes its time."""

    def __init__(self, *, middleware: bool) -> None:
        self.runtime = Runtime()
        self.seen: list[str] = []
        self.clean = asyncio.Event()
        self.app = FastAPI()

        @self.runtime.agent_turn(key="key")
        async def words(key: str) -> AsyncIterator[str]:
            self.seen.append("begin")
            try:
                for word in ("one ", "two ", "three "):
                    yield word
                    if key == "endless":
                        await asyncio.Event().wait()
            finally:
                self.seen.append("cleaning")
                await self.clean.wait()
                self.seen.append("cleaned")

        @self.app.post("/{key}")
        async def stream(key: str) -> StreamingResponse:
            return StreamingResponse(words(key), media_type="text/plain")

        assert callable(stream)
        if middleware:
            self.app.add_middleware(
                LaneMiddleware, key=lambda connection: "endless", runtime=self.runtime, trusted_keys=True
            )


@pytest.mark.parametrize("middleware", [False, True])
async def test_a_streamed_generator_is_one_turn(middleware: bool) -> None:
    """It is read to its end, and its lane is free then."""
    bench = StreamBench(middleware=middleware)
    bench.clean.set()
    async with AsgiDriver(bench.app) as driver:
        request = driver.start("POST", "/short")
        response = await request.response()
        await request.finished()
    assert response.text == "one two three "
    assert bench.runtime.lanes.statistics().totals == {"completed": 1 + middleware}
    assert_no_leaks(bench.runtime.lanes)


@pytest.mark.parametrize("middleware", [False, True])
async def test_a_client_that_leaves_its_stream_ends_the_turn(middleware: bool) -> None:
    """Whether the request's own turn was joined or not: the generator is ended and no lane is left.

    In a turn of its own its cleanup runs to the end although the framework has cancelled the request for good; where
    it joined the request's turn it runs in the request's task and is cut like everything there.
    """
    bench = StreamBench(middleware=middleware)
    async with AsgiDriver(hears_of_disconnects(bench.app)) as driver:
        request = driver.start("POST", "/endless")
        assert await request.body_chunk() == b"one "
        request.disconnect()
        await request.finished()
        await request.until_idle()
        assert bench.seen == ["begin", "cleaning"]
        assert bench.runtime.lanes.statistics().running == (0 if middleware else 1)
        bench.clean.set()
        await request.until_idle()
    assert bench.seen == ["begin", "cleaning"] + ([] if middleware else ["cleaned"])
    assert_no_leaks(bench.runtime.lanes)
