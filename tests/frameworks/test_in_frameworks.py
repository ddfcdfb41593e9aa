"""The middleware in real frameworks: what holds in one holds in all.

Nothing here is random, so there is no long form: `pytest tests/frameworks` is all of it.
"""

import hashlib
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from support.server_django import django
from support.server_handlers import HandlerFailed
from support.server_litestar import litestar, litestar_wrapped
from support.server_quart import quart
from support.server_staged import Stage
from support.server_starlette import fastapi, starlette, starlette_decorated, starlette_mounted
from turnlane import Runtime, keys
from turnlane.hooks import TurnFinished, TurnQueued, TurnRefused
from turnlane.testing import AsgiDriver, Gates, HttpRequest, no_leaks

KEY = "agent:main:alice"
FORM = "application/x-www-form-urlencoded"
MULTIPART = (
    b'--x\r\ncontent-disposition: form-data; name="session"\r\n\r\nagent:main:alice\r\n'
    b'--x\r\ncontent-disposition: form-data; name="text"\r\n\r\nhello\r\n--x--\r\n'
)
BUILDERS = (starlette, starlette_decorated, starlette_mounted, fastapi, litestar, litestar_wrapped, quart, django)

Build = Callable[[Stage, dict[str, Any]], Any]


@pytest.fixture(params=BUILDERS, ids=lambda build: build.__name__)
def build(request: pytest.FixtureRequest) -> Build:
    """Each framework, with the middleware in each place its users may put it."""
    found: Build = request.param
    return found


class Served:
    """An app behind the driver, its lanes, and the places in its handlers."""

    def __init__(self, driver: AsgiDriver, stage: Stage, runtime: Runtime) -> None:
        self.driver = driver
        self.stage = stage
        self.lanes = runtime.lanes
        self.gates = Gates(runtime.hooks)

    def post(self, path: str, name: str, body: bytes = b"{}", **headers: str) -> HttpRequest:
        """Start a request of the key whose places are called `name`."""
        sent = {"content-type": "application/json", "content-length": str(len(body))}
        sent |= {"x-session-key": KEY, "x-name": name}
        sent |= {header.replace("_", "-"): value for header, value in headers.items()}
        return self.driver.start("POST", path, headers=sent, body=body)

    async def queued(self, count: int = 1) -> None:
        await self.gates.at(TurnQueued).reached(count)


@asynccontextmanager
async def serving(build: Build, *, spec_version: str = "2.3", **settings: Any) -> AsyncGenerator[Served, None]:
    stage, runtime = Stage(), Runtime(sessions="memory://")
    settings = {"key": "x-session-key", "runtime": runtime, "trusted_keys": True, **settings}
    async with no_leaks(runtime.lanes), AsgiDriver(build(stage, settings), spec_version=spec_version) as driver:
        yield Served(driver, stage, runtime)
    await runtime.aclose()


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def message(text: str, key: str = KEY) -> bytes:
    return json.dumps({"session": key, "text": text}).encode()


@pytest.mark.parametrize("key", ["x-session-key", keys.json_body("session")], ids=["header", "body"])
async def test_two_requests_of_a_key_run_one_after_the_other(build: Build, key: Any) -> None:
    """Each gets its own body, turn and headers, in one session; nothing is left."""
    bodies = [message("first"), message("second " * 2000)]
    async with serving(build, key=key) as served:
        served.stage.hold("a")
        first = served.post("/answer", "a", bodies[0])
        await served.stage.reached("a")
        second = served.post("/answer", "b", bodies[1])
        await served.queued()
        await second.until_idle()
        assert served.stage.passed == ["a"]
        served.stage.let_go("a")
        answers = [await request.response() for request in (first, second)]
        for request in (first, second):
            await request.finished()
    seen = [answer.json() for answer in answers]
    assert [answer.status for answer in answers] == [200, 200]
    assert [each["digest"] for each in seen] == [digest(body) for body in bodies]
    assert [(each["key"], each["in_state"]) for each in seen] == [(KEY, True)] * 2
    assert seen[0]["turn"] != seen[1]["turn"]
    assert seen[0]["session"] == seen[1]["session"] is not None
    for each, answer, position in zip(seen, answers, ("0", "1"), strict=True):
        assert answer.headers["x-turnlane-turn"] == each["turn"]
        assert answer.headers["x-turnlane-position"] == position
        assert answer.headers["x-session-id"] == each["session"]
        assert int(answer.headers["x-turnlane-waited-ms"]) >= 0
    assert served.stage.passed == ["a", "b"]


async def test_requests_of_other_keys_and_without_one_run_beside_it(build: Build) -> None:
    """Only the key decides; without one there is no turn and no header."""
    async with serving(build, key=keys.json_body("session")) as served:
        served.stage.hold("a")
        first = served.post("/answer", "a", message("x"))
        await served.stage.reached("a")
        other = await served.post("/answer", "b", message("x", "agent:main:bob")).response()
        bare = await served.post("/answer", "c", b'{"text": "x"}').response()
        served.stage.let_go("a")
        await first.finished()
    assert other.json()["key"] == "agent:main:bob"
    assert (bare.status, bare.json()["length"]) == (200, 13)
    assert "x-turnlane-turn" not in bare.headers


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, b"session=agent%3Amain%3Aalice&text=hello"),
        ("multipart/form-data; boundary=x", MULTIPART),
    ],
    ids=["urlencoded", "multipart"],
)
@pytest.mark.parametrize("key", ["x-session-key", keys.form_field("session")], ids=["header", "form"])
async def test_a_form_is_parsed_after_the_middleware_read_it(
    build: Build, key: Any, content_type: str, body: bytes
) -> None:
    """For the one that waits and the one that does not."""
    async with serving(build, key=key) as served:
        served.stage.hold("a")
        first = served.post("/form", "a", body, content_type=content_type)
        await served.stage.reached("a")
        second = served.post("/form", "b", body, content_type=content_type)
        await served.queued()
        served.stage.let_go("a")
        answers = [await request.response() for request in (first, second)]
        for request in (first, second):
            await request.finished()
    assert [answer.status for answer in answers] == [200, 200]
    assert [answer.json() for answer in answers] == [{"session": KEY, "text": "hello"}] * 2


async def test_a_body_in_pieces_is_read_by_whoever_reads_it(build: Build) -> None:
    """While it waits, the middleware; once it runs, the framework: no byte is lost or doubled between them."""
    body = message("in pieces " * 500)
    cuts = [body[:10], body[10:2000], body[2000:4000], body[4000:]]
    async with serving(build, body_limit=1000) as served:
        served.stage.hold("a")
        first = served.post("/answer", "a")
        await served.stage.reached("a")
        headers = {"x-session-key": KEY, "x-name": "b", "content-type": "application/json"}
        second = served.driver.start("POST", "/answer", headers=headers, body=None)
        await second.send_body(cuts[0])
        await served.queued()
        await second.send_body(cuts[1])
        await second.until_idle()
        served.stage.let_go("a")
        await first.finished()
        await second.send_body(cuts[2])
        await second.send_body(cuts[3], more=False)
        answer = await second.response()
    assert (answer.status, answer.json()["digest"]) == (200, digest(body))


async def test_a_stream_holds_its_lane_to_the_end(build: Build) -> None:
    """The first piece is out at once, the next message waits for the last."""
    async with serving(build) as served:
        served.stage.hold("a")
        first = served.post("/stream", "a")
        assert await first.body_chunk() == b"one"
        await served.stage.reached("a")
        second = served.post("/answer", "b")
        await served.queued()
        await second.until_idle()
        assert served.stage.passed == ["a"]
        served.stage.let_go("a")
        assert await first.body_chunk() == b"two"
        response = await first.response()
        assert (await second.response()).status == 200
        for request in (first, second):
            await request.finished()
    assert response.headers["x-turnlane-position"] == "0"
    assert served.stage.passed == ["a", "a left", "b"]


async def test_a_client_that_leaves_while_it_waits_never_runs(build: Build) -> None:
    """The framework never hears of it."""
    async with serving(build) as served:
        served.stage.hold("a")
        first = served.post("/answer", "a")
        await served.stage.reached("a")
        leaver = served.post("/answer", "gone")
        await served.queued()
        leaver.disconnect()
        await leaver.finished()
        assert served.gates.at(TurnRefused).seen[0].reason == "client_gone"
        # Nobody reads it: an answer, if there is one, is for the logs.
        assert [sent["status"] for sent in leaver.messages if "status" in sent] in ([], [499])
        served.stage.let_go("a")
        await first.finished()
    assert served.stage.passed == ["a"]


async def test_a_client_that_leaves_its_stream_frees_the_lane(build: Build) -> None:
    """The framework ends the stream, then the next message runs."""
    async with serving(build) as served:
        served.stage.hold("a")
        leaver = served.post("/stream", "a")
        assert await leaver.body_chunk() == b"one"
        await served.stage.reached("a")
        second = served.post("/answer", "b")
        await served.queued()
        leaver.disconnect()
        assert (await second.response()).status == 200
        for request in (leaver, second):
            await request.finished()
    assert served.stage.passed == ["a", "a left", "b"]


async def test_a_client_that_left_is_noticed_when_the_next_piece_is_sent(build: Build) -> None:
    """With servers of ASGI 2.4, whose `send` raises; what the framework makes of that frees the lane."""
    async with serving(build, spec_version="2.4") as served:
        served.stage.hold("a")
        leaver = served.post("/stream", "a")
        assert await leaver.body_chunk() == b"one"
        await served.stage.reached("a")
        second = served.post("/answer", "b")
        await served.queued()
        leaver.disconnect()
        await leaver.until_idle()
        if not leaver.task.done():  # else it listened for the disconnect all the same
            served.stage.let_go("a")
        assert (await second.response()).status == 200
        # For the server's log; a server knows that its client left.
        with suppress(OSError, ClientDisconnect):
            await leaver.finished()
        await second.finished()
    assert served.stage.passed[0] == "a"
    assert served.stage.passed[-1] == "b"


async def test_an_error_in_a_handler_frees_the_lane(build: Build) -> None:
    """It is the framework's own 500, and the next message runs after it."""
    async with serving(build) as served:
        served.stage.hold("a")
        first = served.post("/fail", "a")
        await served.stage.reached("a")
        second = served.post("/answer", "b")
        await served.queued()
        served.stage.let_go("a")
        assert (await first.response()).status == 500
        assert (await second.response()).status == 200
        try:
            await first.finished()
        except HandlerFailed:
            # Some frameworks answer and raise it again, for the server's log.
            assert build in (starlette, starlette_decorated, starlette_mounted, fastapi)
        await second.finished()
        assert len(served.gates.at(TurnFinished).seen) == 2
    assert served.stage.passed == ["a", "b"]


async def test_a_refusal_reaches_the_client_past_the_framework(build: Build) -> None:
    """409 as the table has it, whatever the framework would make of an error."""
    async with serving(build, policy="reject") as served:
        served.stage.hold("a")
        first = served.post("/answer", "a")
        await served.stage.reached("a")
        refused = await served.post("/answer", "b").response()
        served.stage.let_go("a")
        await first.finished()
    assert (refused.status, refused.json()["error"]["code"]) == (409, "lane_busy")
    assert refused.headers["content-type"] == "application/problem+json"
    assert served.stage.passed == ["a"]
