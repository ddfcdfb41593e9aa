"""FastAPI: turns and sessions as arguments, and lanes of single routes that streams hold to their end."""

import asyncio
import inspect
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import fastapi
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Form, Request, WebSocket
from fastapi.responses import StreamingResponse
from httpx import ASGITransport, AsyncClient
from pydantic import BaseModel

import turnlane_integrations.fastapi as integration
from support.example_output import example_output
from support.server_staged import Stage
from turnlane import Coalesce, LaneMiddleware, Lanes, Runtime, Steer, Turn, errors, keys
from turnlane.asgi import refuse
from turnlane.hooks import TurnFinished, TurnQueued
from turnlane.testing import AsgiDriver, Gates, HttpRequest, no_leaks
from turnlane_integrations.fastapi import CurrentSession, CurrentTurn, lane

KEY = "x-session-key"


class Message(BaseModel):
    """What clients send; its text names the place in the handler."""

    text: str
    conversation: str = "c"


def app_of(stage: Stage, runtime: Runtime) -> FastAPI:
    """An app with lanes for each of its routes."""
    app = FastAPI()
    app.add_exception_handler(errors.TurnlaneError, refuse)
    by_header = lane(runtime, KEY)

    @app.post("/value")
    async def value(message: Message, turn: Annotated[Turn, by_header], session: CurrentSession) -> dict[str, Any]:
        await stage.come_to(message.text)
        return {"turn": turn.id, "ahead": turn.position, "session": session.id}

    @app.post("/whole", dependencies=[by_header])
    def whole(message: Message, turn: CurrentTurn) -> str:
        return turn.key

    @app.post("/streamed", dependencies=[by_header])
    async def streamed(message: Message) -> StreamingResponse:
        async def parts() -> AsyncGenerator[str, None]:
            try:
                yield "begun"
                await stage.come_to(message.text)
                yield " ended"
            finally:
                stage.leave(message.text)

        return StreamingResponse(parts(), media_type="text/plain")

    @app.post("/background", dependencies=[by_header])
    async def background(message: Message, tasks: BackgroundTasks) -> str:
        app.state.context = copy_context()
        tasks.add_task(stage.come_to, message.text)
        return "begun"

    @app.post("/impatient", dependencies=[lane(runtime, KEY, policy="reject")])
    async def impatient() -> None: ...

    @app.post("/other", dependencies=[lane(runtime, "x-other-key")])
    async def other(turn: CurrentTurn, session: CurrentSession) -> list[str]:
        return [turn.key, session.key]

    @app.post("/unread", dependencies=[by_header])
    async def unread() -> None: ...

    add_routes_with_bodies(app, runtime)
    return app


def add_routes_with_bodies(app: FastAPI, runtime: Runtime) -> None:
    """Add those whose key is in the body, and those that have none."""

    @app.post("/body", dependencies=[lane(runtime, keys.json_body("conversation"))])
    async def body(request: Request, message: Message, turn: CurrentTurn) -> dict[str, Any]:
        return {"key": turn.key, "again": (await request.json())["text"]}

    @app.post("/form", dependencies=[lane(runtime, in_form)])
    async def form(turn: CurrentTurn, text: Annotated[str, Form()]) -> str:
        return f"{turn.key} {text}"

    @app.post("/raw_form", dependencies=[lane(runtime, keys.form_field("conversation"))])
    async def raw_form(text: Annotated[str, Form()]) -> None: ...

    @app.post("/none")
    async def none(turn: CurrentTurn) -> None: ...

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, turn: Annotated[Turn, lane(runtime, KEY)]) -> None:
        await websocket.accept()
        await websocket.send_text(turn.key)
        await websocket.close()


async def in_form(request: Request) -> str | None:
    found = (await request.form()).get("conversation")
    return found if isinstance(found, str) else None


class Connection:
    """Begins a request in the context of another one where it is given that, as servers do on one connection."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.context: Context | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await asyncio.create_task(self.app(scope, receive, send), context=self.context)


class Served:
    """The app behind the driver."""

    def __init__(self, app: FastAPI, stage: Stage, runtime: Runtime, connection: Connection, driver: AsgiDriver):
        self.app = app
        self.connection = connection
        self.driver = driver
        self.stage = stage
        self.runtime = runtime
        self.gates = Gates(runtime.hooks)

    def post(self, path: str, text: str = "", *, headers: dict[str, str] | None = None) -> HttpRequest:
        """Start a request."""
        given = {KEY: "c"} if headers is None else headers
        body = Message(text=text).model_dump_json().encode()
        return self.driver.start("POST", path, headers={"content-type": "application/json", **given}, body=body)

    async def queued(self) -> None:
        """Wait until somebody waits."""
        await self.gates.at(TurnQueued).reached()


@asynccontextmanager
async def serving(*, behind: bool = False) -> AsyncGenerator[Served, None]:
    stage, runtime = Stage(), Runtime(sessions="memory://")
    app = app_of(stage, runtime)
    if behind:
        app.add_middleware(LaneMiddleware, key=KEY, runtime=runtime, trusted_keys=True)
    async with no_leaks(runtime.lanes), AsgiDriver(connection := Connection(app)) as driver:
        yield Served(app, stage, runtime, connection, driver)
    await runtime.aclose()


both = pytest.mark.parametrize("behind", [False, True], ids=["alone", "behind the middleware"])


@both
@pytest.mark.parametrize("path", ["/value", "/streamed", "/background"])
async def test_requests_of_a_key_run_one_after_the_other(path: str, behind: bool) -> None:
    """Until the stream and the background tasks have ended; behind the middleware there is one turn, and no second."""
    async with serving(behind=behind) as served:
        served.stage.hold("one")
        first = served.post(path, "one")
        await served.stage.reached("one")
        second, other = served.post(path, "two"), served.post("/whole", headers={KEY: "d"})
        await served.queued()
        assert (await other.response()).json() == "d"
        await second.until_idle()
        assert "two" not in served.stage.passed
        served.stage.let_go("one")
        for request in (first, second):
            assert (await request.response()).status == 200
            await request.finished()
        await served.gates.at(TurnFinished).reached(3)
        passed = [place for place in served.stage.passed if not place.endswith("left")]
        assert passed == ["one", "two"]
        assert served.runtime.lanes.statistics().totals["completed"] == 3


async def test_a_request_that_begins_in_the_context_of_another_waits_for_it() -> None:
    """As servers begin the next request of a connection while a background task of the one before runs."""
    async with serving() as served:
        served.stage.hold("one")
        first = served.post("/background", "one")
        assert (await first.response()).json() == "begun"
        await served.stage.reached("one")
        served.connection.context = served.app.state.context
        second = served.post("/value", "two")
        await served.queued()
        other = served.post("/value", "else", headers={KEY: "d"})
        assert (await other.response()).status == 200
        assert served.stage.passed == ["one", "else"]
        served.stage.let_go("one")
        assert (await second.response()).json()["ahead"] == 1
        await first.finished()
    assert served.stage.passed == ["one", "else", "two"]


async def test_a_request_made_inside_of_a_turn_is_part_of_it() -> None:
    """In-process, by its own task."""
    async with serving() as served, served.runtime.turn("c") as turn:
        transport = ASGITransport(served.app, client=("127.0.0.1", 50000))
        async with AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.post("/value", json={"text": "one"}, headers={KEY: "c"})
    assert answer.json()["turn"] == turn.id


@both
async def test_the_current_turn_is_the_innermost(behind: bool) -> None:
    """Of two lanes that a request is in; and so is its session."""
    async with serving(behind=behind) as served:
        answer = await served.post("/other", headers={KEY: "c", "x-other-key": "d"}).response()
    assert answer.json() == ["d", "d"]


async def test_who_leaves_before_its_body_has_come_is_no_error() -> None:
    """Nor does it have a turn."""
    async with serving() as served:
        headers = {KEY: "c", "content-length": "10"}
        leaver = served.driver.start("POST", "/unread", headers=headers, body=None)
        await leaver.send_body(b"begun", more=True)
        leaver.disconnect()
        await leaver.finished()
        assert not served.runtime.lanes.statistics().totals["completed"]


async def test_caps_of_a_principal_hold() -> None:
    """The key tells for whom a request is; one that does not is refused when the route is made."""

    def user(connection: Any) -> str | None:
        found = connection.headers.get("x-user")
        return found if isinstance(found, str) else None

    runtime, app = Runtime(lanes=Lanes(max_running_per_principal=1, policy="reject")), FastAPI()
    app.add_exception_handler(errors.TurnlaneError, refuse)
    with pytest.raises(ValueError, match="for whom a request is"):
        lane(runtime, KEY)

    @app.post("/chat", dependencies=[lane(runtime, keys.scoped_by(user, KEY))])
    async def chat() -> None: ...

    async with AsgiDriver(app) as driver, runtime.turn("ada/one", principal="ada"):
        sent = [driver.start("POST", "/chat", headers={KEY: "two", "x-user": name}) for name in ("ada", "bob")]
        answers = [(await request.response()).status for request in sent]
    assert answers == [429, 200]


async def test_they_have_one_session() -> None:
    """That of the key."""
    async with serving() as served:
        found = [(await served.post("/value", text).response()).json()["session"] for text in ("a", "b")]
    assert found[0] == found[1]


async def test_who_leaves_while_it_waits_is_gone_from_the_line() -> None:
    """Its endpoint is never called."""
    async with serving() as served:
        served.stage.hold("one")
        first = served.post("/value", "one")
        await served.stage.reached("one")
        leaver = served.post("/value", "gone")
        await served.queued()
        leaver.disconnect()
        await leaver.finished()
        assert served.runtime.lanes.statistics().waiting == 0
        served.stage.let_go("one")
        assert (await first.response()).status == 200
    assert served.stage.passed == ["one"]


async def test_who_leaves_a_stream_frees_the_lane() -> None:
    """The generator is closed first."""
    async with serving() as served:
        served.stage.hold("one")
        leaver = served.post("/streamed", "one")
        assert await leaver.body_chunk()
        await served.stage.reached("one")
        second = served.post("/value", "two")
        await served.queued()
        leaver.disconnect()
        assert (await second.response()).status == 200
        for request in (leaver, second):
            await request.finished()
    assert served.stage.passed == ["one", "one left", "two"]


async def test_refusals_are_those_of_the_middleware() -> None:
    """By the exception handler."""
    async with serving() as served:
        async with served.runtime.turn("c"):
            busy = await served.post("/impatient").response()
        missing = await served.post("/value", headers={}).response()
        wrong = await served.post("/value", headers={KEY: "a" * 600}).response()
    answers = [(answer.status, answer.json()["error"]["code"]) for answer in (busy, missing, wrong)]
    assert answers == [(409, "lane_busy"), (400, "session_key_required"), (422, "session_key_invalid")]
    assert "retry-after" in busy.headers


async def test_an_interrupted_request_is_told_so() -> None:
    """Before its response has begun."""
    async with serving() as served:
        served.stage.hold("one")
        first = served.post("/value", "one")
        await served.stage.reached("one")
        async with served.runtime.turn("c", policy="interrupt"):
            pass
        answer = await first.response()
    assert (answer.status, answer.json()["error"]["code"]) == (409, "turn_interrupted")


async def test_a_key_may_be_in_the_body() -> None:
    """The endpoint gets it all the same, as FastAPI read it and as it is."""
    async with serving() as served:
        answer = (await served.post("/body", "text").response()).json()
    assert answer == {"key": "c", "again": "text"}


async def test_a_key_may_be_in_a_form() -> None:
    """Read by a callable; the extractor that reads bytes says that they are gone."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    async with serving() as served:
        form = served.driver.start("POST", "/form", headers=headers, body=b"conversation=c&text=hello")
        assert (await form.response()).json() == "c hello"
        raw = served.driver.start("POST", "/raw_form", headers=headers, body=b"conversation=c&text=hello")
        with pytest.raises(errors.NotConfigured, match="use LaneMiddleware"):
            await raw.finished()


async def test_what_is_not_there_is_said() -> None:
    """And what to add."""
    async with serving() as served:
        with pytest.raises(errors.NotConfigured, match="add LaneMiddleware to the app, or lane"):
            await served.post("/none").finished()
    runtime, app = Runtime(), FastAPI()

    @app.post("/session", dependencies=[lane(runtime, KEY)])
    async def session(session: CurrentSession) -> None: ...

    async with AsgiDriver(app) as driver:
        with pytest.raises(errors.NotConfigured, match="sessions="):
            await driver.start("POST", "/session", headers={KEY: "c"}).finished()


async def test_a_socket_is_one_turn() -> None:
    """Which begins before it is accepted, and ends with the endpoint."""
    async with serving() as served:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/socket",
            "headers": [(KEY.encode(), b"c")],
            "query_string": b"",
            "subprotocols": [],
        }
        await app_of(served.stage, served.runtime)(scope, receive, send)
    assert [message.get("text") for message in sent] == [None, "c", None]
    assert served.runtime.lanes.statistics().totals["completed"] == 1


def test_a_policy_that_needs_a_message_is_refused_without_one() -> None:
    """When the route is made, and not with each request."""
    for policy in (Coalesce(), Steer()):
        with pytest.raises(ValueError, match="needs message="):
            lane(Runtime(), "x-key", policy=policy)
        with pytest.raises(ValueError, match="needs message="):
            lane(Runtime(lanes=Lanes(policy=policy)), "x-key")
        lane(Runtime(), "x-key", policy=policy, message=str)


def test_a_version_that_ends_dependencies_too_early_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any request comes."""

    def older(dependency: object = None, *, use_cache: bool = True) -> None: ...

    monkeypatch.setattr(integration, "Depends", older)
    with pytest.raises(errors.NotConfigured, match=r">=0\.121"):
        lane(Runtime(), KEY)


def test_fastapi_is_as_this_integration_knows_it() -> None:
    """If this fails, look at integrations/turnlane_integrations/fastapi.py."""
    parameters = inspect.signature(Depends).parameters
    assert "scope" in parameters, f"FastAPI {version('fastapi')}: Depends has no `scope` any more: {parameters}"
    assert hasattr(fastapi.Request, "receive"), "requests have no `receive` any more"


def test_the_example_shows_it(tmp_path: Path) -> None:
    """By itself, with warnings as errors."""
    assert example_output("fastapi_routes.py", directory=tmp_path)[-1] == "turns one after the other: yes"
