"""What is added to the app's response, and that nothing else of it is touched."""

import copy
import functools
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from starlette.responses import FileResponse, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from support.asgi_staged import StagedApp, answer_with, chunk, laned, post, serving, start, watched
from support.asgi_wire import Wire, scope_of
from turnlane import Enqueue, LaneMiddleware, Lanes
from turnlane.testing import ManualClock, Response

START = "http.response.start"
OURS: tuple[str, ...] = ("x-turnlane-waited-ms", "x-turnlane-position", "x-turnlane-turn")


def ours(response: Response) -> dict[str, str]:
    """Return the headers that were added."""
    return {name: value for name, value in response.headers.items() if name.startswith("x-")}


async def test_a_turn_that_did_not_wait_says_so(way: str) -> None:
    """Zero and zero, and its name; with sessions also the session."""
    app = StagedApp(held=False)
    async with serving(laned(app, way=way)) as driver:
        response = await post(driver, "alice", "it").response()
    turn = app.turns["it"]
    assert turn is not None
    expected = dict(zip(OURS, ("0", "0", turn.id), strict=True))
    if turn.session is not None:
        expected["x-session-id"] = turn.session.id
    assert ours(response) == expected
    assert (turn.session is not None) == (way == "sessions")


async def test_waits_and_positions_are_told(way: str) -> None:
    """Whole milliseconds since arrival; how many were ahead, who ran included."""
    clock = ManualClock()
    app = StagedApp()
    async with serving(laned(app, way=way, lanes=Lanes(clock=clock))) as driver:
        requests = [post(driver, "alice", str(number)) for number in range(3)]
        await app.entered("0")
        await requests[2].until_idle()
        for number in range(3):
            clock.advance(0.2506)
            app.release(str(number))
            await requests[number].response()
        told = [ours(await request.response()) for request in requests]
    assert [each["x-turnlane-position"] for each in told] == ["0", "1", "2"]
    assert [each["x-turnlane-waited-ms"] for each in told] == ["0", "250", "501"]
    assert all("x-turnlane-hint" not in each for each in told)


async def test_the_hint_is_told_to_those_it_is_meant_for(way: str) -> None:
    """Only where as many were ahead as `hint_after` names."""
    app = StagedApp()
    async with serving(laned(app, way=way, policy=Enqueue(hint_after=2))) as driver:
        requests = [post(driver, "alice", str(number)) for number in range(4)]
        await app.entered("0")
        await requests[3].until_idle()
        app.release("0", "1", "2", "3")
        hints = [(await request.response()).headers.get("x-turnlane-hint") for request in requests]
    assert hints == [None, None, "queued", "queued"]


async def test_a_wait_for_a_running_slot_has_position_zero() -> None:
    """Nobody of its own key was ahead, and yet it waited."""
    clock = ManualClock()
    app = StagedApp()
    async with serving(laned(app, lanes=Lanes(max_running=1, clock=clock))) as driver:
        post(driver, "bob", "other")
        await app.entered("other")
        request = post(driver, "alice", "it")
        await request.until_idle()
        clock.advance(1.5005)
        app.release("other", "it")
        told = ours(await request.response())
    assert (told["x-turnlane-position"], told["x-turnlane-waited-ms"]) == ("0", "1500")


async def test_they_can_be_turned_off(way: str) -> None:
    """`headers=False`: nothing is added, to who waited neither, and the start message is the app's own."""
    app = StagedApp()
    begin = start(200, (b"x-own", b"1"))
    seen: list[Message] = []

    async def own(_: Scope, __: Receive, send: Send) -> None:
        await send(begin)
        await send(chunk(b"", more=False))

    async def server(message: Message) -> None:
        seen.append(message)

    app.steps["it"] = own
    middleware = laned(app, way=way, headers=False)
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        request = post(driver, "alice", "waited")
        await request.until_idle()
        app.release("holder", "waited")
        assert ours(await request.response()) == {}
    async with watched(middleware):
        await middleware(scope_of("alice"), Wire().receive, server)
    assert seen[0] is begin


@pytest.mark.parametrize("name", [b"x-session-id", b"X-Session-Id"])
async def test_the_apps_own_session_id_wins(name: bytes) -> None:
    """The app may know better; ours is not sent beside it."""
    app = StagedApp()

    async def own(_: Scope, __: Receive, send: Send) -> None:
        await answer_with(send, b"ok", (name, b"the-apps"))

    app.steps["it"] = own
    wire = Wire()
    middleware = laned(app, way="sessions")
    async with watched(middleware):
        await wire.call(middleware, scope_of("alice"))
    given = [value for found, value in wire.sent[0]["headers"] if found.lower() == b"x-session-id"]
    assert given == [b"the-apps"]


async def test_the_apps_headers_are_kept_in_order(way: str) -> None:
    """Equal names stay apart, ours come last, names and values are bytes."""
    app = StagedApp()

    async def own(_: Scope, __: Receive, send: Send) -> None:
        await answer_with(send, b"ok", (b"set-cookie", b"a=1"), (b"b", b"2"), (b"set-cookie", b"c=3"))

    app.steps["it"] = own
    async with serving(laned(app, way=way)) as driver:
        response = await post(driver, "alice", "it").response()
    assert response.raw_headers[:3] == ((b"set-cookie", b"a=1"), (b"b", b"2"), (b"set-cookie", b"c=3"))
    assert set(OURS) <= {name.decode() for name, _ in response.raw_headers[3:]}


@pytest.mark.parametrize("headers", ["list", "tuple", "generator", "missing"])
async def test_the_apps_start_message_is_not_changed(way: str, headers: str) -> None:
    """An app may send one message object for every response."""
    pairs = [(b"a", b"1"), (b"b", b"2")]
    made: dict[str, Any] = {"list": pairs, "tuple": tuple(pairs), "generator": (pair for pair in pairs)}
    begin: Message = {"type": "http.response.start", "status": 201, "own": object()}
    if headers in made:
        begin["headers"] = made[headers]
    before = dict(begin)
    kept = copy.copy(pairs)

    async def own(_: Scope, __: Receive, send: Send) -> None:
        await send(begin)
        await send(chunk(b"", more=False))

    wire = Wire()
    middleware = laned(own, way=way)
    async with watched(middleware):
        await wire.call(middleware, scope_of("alice"))
    assert begin == before
    assert pairs == kept
    sent = wire.sent[0]
    assert {name: value for name, value in sent.items() if name != "headers"} == {
        name: value for name, value in before.items() if name != "headers"
    }
    own_headers = [] if headers == "missing" else kept
    assert sent["headers"][: len(own_headers)] == own_headers
    assert len(sent["headers"]) > len(own_headers)


async def test_the_start_is_sent_once_and_the_rest_is_passed_on_as_it_is(way: str) -> None:
    """A stream of many parts: the very objects of the app, one start, in order."""
    parts = [chunk(b"%d" % number, more=number < 9) for number in range(10)]

    async def own(_: Scope, __: Receive, send: Send) -> None:
        await send(start())
        for part in parts:
            await send(part)

    wire = Wire()
    middleware = laned(own, way=way)
    async with watched(middleware):
        await wire.call(middleware, scope_of("alice"))
    assert [message["type"] for message in wire.sent].count("http.response.start") == 1
    assert all(sent is part for sent, part in zip(wire.sent[1:], parts, strict=True))


async def test_a_stream_is_sent_part_by_part(way: str) -> None:
    """Each as the app sends it, held back by nothing but the client."""
    app = StagedApp()

    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        async def parts() -> AsyncGenerator[bytes, None]:
            for number in range(3):
                yield b"%d" % number
                app.log.append(f"sent {number}")

        await StreamingResponse(parts())(scope, receive, send)

    app.steps["it"] = streaming
    async with serving(laned(app, way=way)) as driver:
        request = post(driver, "alice", "it", backpressure=True)
        for number in range(3):
            assert await request.body_chunk() == b"%d" % number
            await request.until_idle()
            assert [entry for entry in app.log if entry.startswith("sent")] == [f"sent {n}" for n in range(number + 1)]
        assert await request.body_chunk() == b""
        await request.finished()


EXTENSIONS: dict[str, list[Message]] = {
    "http.response.pathsend": [start(), {"type": "http.response.pathsend", "path": "/srv/file"}],
    "http.response.zerocopysend": [
        start(),
        {"type": "http.response.zerocopysend", "file": 3, "offset": 0, "count": 9, "more_body": True},
        {"type": "http.response.zerocopysend", "file": 3, "more_body": False},
    ],
    "http.response.trailers": [
        start(200, trailers=True),
        chunk(b"body", more=False),
        {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True},
        {"type": "http.response.trailers", "headers": [(b"x-sum", b"2")], "more_trailers": False},
    ],
    "http.response.debug": [
        {"type": "http.response.debug", "info": {"template": "a.html"}},
        start(),
        chunk(b"", more=False),
    ],
    "http.response.early_hint": [
        {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]},
        start(),
        chunk(b"", more=False),
    ],
    "http.response.push": [
        start(),
        {"type": "http.response.push", "path": "/a.css", "headers": []},
        chunk(b"", more=False),
    ],
}


@pytest.mark.parametrize("extension", EXTENSIONS)
async def test_extensions_are_passed_on_untouched(extension: str, way: str) -> None:
    """The same messages in the same order; only the start has headers more. The extensions of the scope stay."""
    every: list[dict[str, Any]] = [{}, {"release_on": "response_end"}, {"on_disconnect": "finish"}]
    for settings in every:
        await pass_on(extension, functools.partial(laned, way=way, **settings))


async def pass_on(extension: str, make: Callable[[StagedApp], LaneMiddleware]) -> None:
    """Let an app send the messages of an extension, and compare what the server gets."""
    app = StagedApp()
    messages = EXTENSIONS[extension]

    async def own(_: Scope, __: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    app.steps["it"] = own
    async with serving(make(app), extensions=[extension]) as driver:
        request = post(driver, "alice", "it")
        await request.finished()
        assert request.scope["extensions"] == {extension: {}}
    sent = [dict(message) for message in request.messages]
    for message, own_message in zip(sent, messages, strict=True):
        if message["type"] == START:
            names = [name for name, _ in message.pop("headers")]
            assert names.count(b"x-turnlane-turn") == 1
        assert message == {
            name: value for name, value in own_message.items() if (name, message["type"]) != ("headers", START)
        }


async def test_a_file_is_still_sent_by_the_server(way: str, tmp_path: Any) -> None:
    """Starlette's own response finds the extension behind the middleware."""
    path = tmp_path / "file"
    path.write_bytes(b"data")
    middleware = laned(FileResponse(path), way=way)
    async with serving(middleware, extensions=["http.response.pathsend"]) as driver:
        request = post(driver, "alice", "it")
        await request.finished()
    assert [message["type"] for message in request.messages] == ["http.response.start", "http.response.pathsend"]
    assert request.messages[1]["path"] == str(path)


async def test_a_refusal_of_a_turn_that_ran_has_its_headers(way: str) -> None:
    """Who was interrupted learns which turn it was, beside why."""
    app = StagedApp()
    async with serving(laned(app, way=way, turn_timeout=0.01)) as driver:
        response = await post(driver, "alice", "it").response()
    turn = app.turns["it"]
    assert turn is not None
    assert response.status == 504
    assert response.headers["x-turnlane-turn"] == turn.id
    assert ("x-session-id" in response.headers) == (way == "sessions")
