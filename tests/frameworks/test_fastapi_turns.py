"""FastAPI endpoints that are turn functions: behind the middleware they join its turn, alone they are their own."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Header
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from support.server_handlers import HandlerFailed
from support.server_staged import Stage
from turnlane import LaneMiddleware, Runtime, Turn
from turnlane.hooks import TurnFinished, TurnQueued, TurnStarted
from turnlane.testing import AsgiDriver, Gates, HttpRequest, no_leaks

KEY = "agent:main:alice"
SessionKey = Annotated[str, Header(alias="x-session-key")]


class Message(BaseModel):
    """What clients send; its text names the place in the handler."""

    text: str


def app_of(stage: Stage, runtime: Runtime, *, behind: bool) -> FastAPI:
    """Return the app, behind the middleware or not."""
    app = FastAPI()
    if behind:
        app.add_middleware(LaneMiddleware, key="x-session-key", runtime=runtime, trusted_keys=True)

    @app.post("/answer")
    @runtime.agent_turn(key="session_key")
    async def answer(session_key: SessionKey, message: Message, *, turn: Turn) -> dict[str, Any]:
        """Answer a message."""
        await stage.come_to(message.text)
        assert turn.session is not None
        return {"turn": turn.id, "key": turn.key, "session": turn.session.id, "waited": turn.position}

    @app.post("/fail")
    @runtime.agent_turn(key="session_key")
    async def fail(session_key: SessionKey, message: Message) -> None:
        await stage.come_to(message.text)
        raise HandlerFailed

    @app.post("/elsewhere")
    async def elsewhere(session_key: SessionKey, message: Message) -> str:
        return await other_turn(message.text)

    @runtime.agent_turn(key="key", policy="reject")
    async def other_turn(key: str) -> str:
        await stage.come_to(key)
        return key

    @runtime.agent_turn(key="session_key")
    async def reply(session_key: str, text: str, *, turn: Turn) -> AsyncGenerator[str, None]:
        try:
            yield turn.id
            await stage.come_to(text)
            yield " end"
        finally:
            stage.leave(text)

    @app.post("/stream")
    async def stream(session_key: SessionKey, message: Message) -> StreamingResponse:
        return StreamingResponse(reply(session_key, message.text), media_type="text/plain")

    if find_spec("fastapi.sse") is not None:
        from fastapi.sse import EventSourceResponse

        @app.post("/events", response_class=EventSourceResponse)
        @runtime.agent_turn(key="session_key")
        async def events(session_key: SessionKey, message: Message, *, turn: Turn) -> AsyncIterator[dict[str, str]]:
            try:
                yield {"turn": turn.id}
                await stage.come_to(message.text)
                yield {"end": message.text}
            finally:
                stage.leave(message.text)

        _ = events
    _ = answer, fail, elsewhere, stream
    return app


class Served:
    """The app behind the driver."""

    def __init__(self, driver: AsgiDriver, stage: Stage, runtime: Runtime) -> None:
        self.driver = driver
        self.stage = stage
        self.gates = Gates(runtime.hooks)

    def post(self, path: str, text: str, key: str = KEY) -> HttpRequest:
        """Start a request."""
        headers = {"x-session-key": key, "content-type": "application/json"}
        body = Message(text=text).model_dump_json().encode()
        return self.driver.start("POST", path, headers=headers, body=body)

    async def queued(self) -> None:
        """Wait until somebody waits."""
        await self.gates.at(TurnQueued).reached()


@asynccontextmanager
async def serving(*, behind: bool) -> AsyncGenerator[Served, None]:
    stage, runtime = Stage(), Runtime(sessions="memory://")
    async with no_leaks(runtime.lanes), AsgiDriver(app_of(stage, runtime, behind=behind)) as driver:
        yield Served(driver, stage, runtime)
    await runtime.aclose()


both = pytest.mark.parametrize("behind", [True, False], ids=["behind the middleware", "alone"])


@both
async def test_two_calls_of_a_key_run_one_after_the_other(behind: bool) -> None:
    """In one session; behind the middleware the endpoint's turn is the request's, and there is no second wait."""
    async with serving(behind=behind) as served:
        served.stage.hold("a")
        first = served.post("/answer", "a")
        await served.stage.reached("a")
        second = served.post("/answer", "b")
        await served.queued()
        await second.until_idle()
        assert served.stage.passed == ["a"]
        served.stage.let_go("a")
        answers = [await request.response() for request in (first, second)]
        for request in (first, second):
            await request.finished()
        assert len(served.gates.at(TurnStarted).seen) == 2
    seen = [answer.json() for answer in answers]
    assert [(each["key"], each["waited"]) for each in seen] == [(KEY, 0), (KEY, 1)]
    assert seen[0]["session"] == seen[1]["session"]
    assert seen[0]["turn"] != seen[1]["turn"]
    told = [answer.headers.get("x-turnlane-turn") for answer in answers]
    assert told == ([each["turn"] for each in seen] if behind else [None, None])
    assert served.stage.passed == ["a", "b"]


@both
async def test_a_streamed_turn_holds_its_lane_to_the_end(behind: bool) -> None:
    """A generator that is a turn, streamed: the next call waits until it has ended."""
    async with serving(behind=behind) as served:
        served.stage.hold("a")
        first = served.post("/stream", "a")
        turn = (await first.body_chunk()).decode()
        await served.stage.reached("a")
        second = served.post("/answer", "b")
        await served.queued()
        served.stage.let_go("a")
        response = await first.response()
        assert (await second.response()).status == 200
        for request in (first, second):
            await request.finished()
    assert response.text == f"{turn} end"
    assert response.headers.get("x-turnlane-turn") == (turn if behind else None)
    assert served.stage.passed == ["a", "a left", "b"]


@both
async def test_a_client_that_leaves_a_streamed_turn_frees_the_lane(behind: bool) -> None:
    """The generator is closed first."""
    async with serving(behind=behind) as served:
        served.stage.hold("a")
        leaver = served.post("/stream", "a")
        assert await leaver.body_chunk()
        await served.stage.reached("a")
        second = served.post("/answer", "b")
        await served.queued()
        leaver.disconnect()
        assert (await second.response()).status == 200
        for request in (leaver, second):
            await request.finished()
        await served.gates.at(TurnFinished).reached(2)
    assert served.stage.passed == ["a", "a left", "b"]


@pytest.mark.skipif(find_spec("fastapi.sse") is None, reason="this FastAPI has no endpoints that yield events")
@both
async def test_an_endpoint_that_yields_events_is_a_turn(behind: bool) -> None:
    """FastAPI sees an async generator function, and streams what it yields."""
    async with serving(behind=behind) as served:
        served.stage.hold("a")
        first = served.post("/events", "a")
        await served.stage.reached("a")
        second = served.post("/answer", "b")
        await served.queued()
        served.stage.let_go("a")
        response = await first.response()
        assert (await second.response()).status == 200
        for request in (first, second):
            await request.finished()
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert [event[:8] for event in events] == ['{"turn":', '{"end":"']
    assert served.stage.passed == ["a", "a left", "b"]


@both
async def test_an_error_in_a_turn_frees_the_lane(behind: bool) -> None:
    """The framework answers 500, the next call runs."""
    async with serving(behind=behind) as served:
        served.stage.hold("a")
        first = served.post("/fail", "a")
        await served.stage.reached("a")
        second = served.post("/answer", "b")
        await served.queued()
        served.stage.let_go("a")
        assert (await first.response()).status == 500
        with pytest.raises(HandlerFailed):
            await first.finished()
        assert (await second.response()).status == 200
        await second.finished()
        outcomes = [event.outcome for event in served.gates.at(TurnFinished).seen]
    assert outcomes == ["failed", "completed"]


@both
async def test_the_schema_does_not_show_the_turn(behind: bool) -> None:
    """Clients send the header and the message; a request without them is FastAPI's own 422 and no turn."""
    async with serving(behind=behind) as served:
        document = (await served.driver.start("GET", "/openapi.json").response()).json()
        headers = {"x-session-key": KEY, "content-type": "application/json"}
        wrong = await served.driver.start("POST", "/answer", headers=headers, body=b"{}").response()
        assert served.stage.passed == []
    operation = document["paths"]["/answer"]["post"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["x-session-key"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/Message")
    assert operation["description"] == "Answer a message."
    assert wrong.status == 422


async def test_a_turn_of_another_key_that_is_refused_inside_is_answered_by_the_middleware() -> None:
    """409 as for the request itself, not a 500; both lanes are free afterwards."""
    async with serving(behind=True) as served:
        served.stage.hold("agent:shared")
        first = served.post("/elsewhere", "agent:shared", key="agent:one")
        await served.stage.reached("agent:shared")
        refused = await served.post("/elsewhere", "agent:shared", key="agent:two").response()
        served.stage.let_go("agent:shared")
        assert (await first.response()).json() == "agent:shared"
        await first.finished()
    assert (refused.status, refused.json()["error"]["code"]) == (409, "lane_busy")


async def test_a_generator_that_nobody_reads_to_its_end_is_closed_with_its_request() -> None:
    """The client reads one piece and leaves; the turn's own cleanup has run before the lane goes."""
    async with serving(behind=False) as served:
        served.stage.hold("a")
        leaver = served.post("/stream", "a")
        assert await leaver.body_chunk()
        await served.stage.reached("a")
        leaver.disconnect()
        await leaver.finished()
        finished = await served.gates.at(TurnFinished).reached()
    assert finished.outcome == "cancelled"
    assert served.stage.passed == ["a", "a left"]
