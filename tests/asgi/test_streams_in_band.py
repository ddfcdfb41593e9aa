"""Errors that come after the response has begun: told inside an event stream, else by breaking the response off."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from support.asgi_staged import StagedApp, chunk, laned, post, serving, start, watched
from support.asgi_wire import Wire, scope_of
from turnlane import Interrupt, errors
from turnlane.testing import HttpRequest

EVENTS = (b"content-type", b"text/event-stream")
SECRET = "agent:main:a-secret-key"
INTERRUPTED = errors.TurnInterrupted(SECRET, turn="turn-old", into="turn-new", running=True)
STALE = errors.SessionConflict(SECRET, expected_version=1, found_version=2)

SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "without headers": {"headers": False},
    "to the response's end": {"release_on": "response_end"},
    "without its client": {"on_disconnect": "finish"},
}


def says(app: StagedApp, *messages: Message, error: BaseException | None = None) -> None:
    """Let the request `it` send these messages and then fail, or wait for ever."""

    async def step(_: Scope, __: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error.with_traceback(None)
        await app.released("never")

    app.steps["it"] = step


def last_event(request: HttpRequest) -> dict[str, Any]:
    """Return the document of the error event that ended the stream."""
    last = request.messages[-1]
    assert last["type"] == "http.response.body"
    assert last["more_body"] is False
    lines = last["body"].decode().lstrip("\n").split("\n")
    assert lines[0] == "event: error"
    assert lines[2:] == ["", ""]
    document: dict[str, Any] = json.loads(lines[1].removeprefix("data: "))
    assert SECRET not in last["body"].decode()
    return document


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ("as it is", b"text/event-stream"),
        ("as it is", b"Text/Event-Stream ;charset=utf-8"),
        ("without headers", b"text/event-stream; charset=utf-8"),
        ("to the response's end", b"text/event-stream"),
        ("without its client", b" text/event-stream"),
    ],
)
async def test_an_event_stream_ends_with_an_error_event(way: str, settings: str, kind: bytes) -> None:
    """One event after what was sent, which is left as it was; the response is complete and nothing is raised."""
    app = StagedApp()
    says(app, start(200, (b"content-type", kind)), chunk(b"data: 1\n\n"), error=INTERRUPTED)
    async with serving(laned(app, way=way, **SETTINGS[settings])) as driver:
        request = post(driver, SECRET, "it")
        response = await request.response()
        await request.finished()
    assert response.status == 200
    assert response.body.startswith(b"data: 1\n\nevent: error\n")
    assert len(request.messages) == 3
    document = last_event(request)
    assert document["type"] == "error"
    assert document["into"] == "turn-new"
    assert document["error"]["code"] == "turn_interrupted"
    assert set(document) == {"type", "error", "into"}


@pytest.mark.parametrize("headers", [True, False])
async def test_headers_that_can_be_read_once_are_read_once(headers: bool) -> None:
    """Whether it is an event stream is known all the same, and the server gets them all."""
    app = StagedApp()
    pairs = (pair for pair in [EVENTS, (b"a", b"1")])
    says(app, {"type": "http.response.start", "status": 200, "headers": pairs}, error=INTERRUPTED)
    wire = Wire()
    middleware = laned(app, headers=headers)
    async with watched(middleware):
        await wire.call(middleware, scope_of(SECRET))
    assert list(wire.sent[0]["headers"])[:2] == [EVENTS, (b"a", b"1")]
    assert wire.text.startswith("event: error\n")


async def test_an_error_that_has_no_successor_names_none() -> None:
    """`into` is there only where somebody took the place."""
    app = StagedApp()
    says(app, start(200, EVENTS), chunk(b"data: 1\n\n"), error=STALE)
    async with serving(laned(app)) as driver:
        request = post(driver, SECRET, "it")
        await request.finished()
    assert set(last_event(request)) == {"type", "error"}
    assert last_event(request)["error"]["code"] == "session_conflict"


async def test_before_the_first_event_the_error_is_the_first() -> None:
    """A response that has only begun."""
    app = StagedApp()
    says(app, start(200, EVENTS), error=INTERRUPTED)
    async with serving(laned(app)) as driver:
        request = post(driver, SECRET, "it")
        assert (await request.response()).body.startswith(b"event: error\n")


@pytest.mark.parametrize(
    ("extension", "moment"),
    [
        ("http.response.early_hint", "before"),
        ("http.response.debug", "before"),
        ("http.response.push", "before"),
        ("http.response.push", "after"),
    ],
)
async def test_announcements_are_no_part_of_the_stream(extension: str, moment: str) -> None:
    """Hints before the response, or pushes during it, do not hide that it is an event stream."""
    app = StagedApp()
    announcement: Message = {"type": extension, "links": [], "info": {}, "path": "/", "headers": []}
    if moment == "before":
        says(app, announcement, start(200, EVENTS), error=INTERRUPTED)
    else:
        says(app, start(200, EVENTS), chunk(b"data: 1\n\n"), announcement, error=INTERRUPTED)
    async with serving(laned(app), extensions=[extension]) as driver:
        request = post(driver, SECRET, "it")
        await request.finished()
    assert last_event(request)["error"]["code"] == "turn_interrupted"


BROKEN_OFF: dict[str, list[Message]] = {
    "text": [start(200, (b"content-type", b"text/plain")), chunk(b"half")],
    "json": [start(200, (b"content-type", b"application/json")), chunk(b'{"half": ')],
    "no type": [start(200), chunk(b"half")],
    "like events": [start(200, (b"content-type", b"text/event-stream+json")), chunk(b"half")],
    "a known length": [start(200, EVENTS, (b"content-length", b"90")), chunk(b"data: 1\n\n")],
    "compressed": [start(200, EVENTS, (b"content-encoding", b"gzip")), chunk(b"\x1f\x8b")],
    "trailers to come": [start(200, EVENTS, trailers=True), chunk(b"data: 1\n\n")],
    "nothing but a start": [start(200, (b"content-type", b"text/plain"))],
    "the server's own sending": [
        start(200, EVENTS),
        {"type": "http.response.zerocopysend", "file": 3, "more_body": True},
    ],
}


@pytest.mark.parametrize("name", BROKEN_OFF)
async def test_any_other_response_is_broken_off(name: str, way: str) -> None:
    """The error goes to the server, which closes the connection: half an answer is not taken for the whole."""
    extensions = ["http.response.trailers", "http.response.zerocopysend"]
    for settings in SETTINGS.values():
        app = StagedApp()
        says(app, *BROKEN_OFF[name], error=INTERRUPTED)
        async with serving(laned(app, way=way, **settings), extensions=extensions) as driver:
            request = post(driver, SECRET, "it")
            with pytest.raises(errors.TurnInterrupted) as caught:
                await request.finished()
            assert caught.value is INTERRUPTED
            assert len(request.messages) == len(BROKEN_OFF[name])


async def test_an_interruption_breaks_a_response_off_too(way: str) -> None:
    """Raised by the lane rather than the app: the cancellation does not reach the server, its reason does."""
    app = StagedApp()
    says(app, *BROKEN_OFF["text"])
    async with serving(laned(app, way=way, policy=Interrupt(grace=0))) as driver:
        request = post(driver, SECRET, "it")
        await app.entered("it")
        app.release("newer")
        newer = await post(driver, SECRET, "newer").response()
        with pytest.raises(errors.TurnInterrupted) as caught:
            await request.finished()
    assert caught.value.into == newer.headers["x-turnlane-turn"]
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert not request.task.cancelled()


async def test_a_turn_timeout_ends_a_stream(way: str) -> None:
    """As an interruption does, under its own code."""
    app = StagedApp()
    says(app, start(200, EVENTS), chunk(b"data: 1\n\n"))
    async with serving(laned(app, way=way, turn_timeout=0.01)) as driver:
        request = post(driver, SECRET, "it")
        await request.finished()
    assert last_event(request)["error"]["code"] == "turn_timeout"


class TestAfterTheEnd:
    """The response is complete; what comes then can not be told to the client."""

    async def test_an_interruption_is_nobodys_failure(self, way: str, caplog: pytest.LogCaptureFixture) -> None:
        """A background task that made room: the log has it, the server is not bothered."""
        caplog.set_level("INFO", "turnlane.asgi")
        app = StagedApp()
        says(app, start(200), chunk(b"whole", more=False))
        async with serving(laned(app, way=way, policy=Interrupt(grace=0))) as driver:
            request = post(driver, SECRET, "it")
            assert (await request.response()).text == "whole"
            app.release("newer")
            assert (await post(driver, SECRET, "newer").response()).status == 200
            await request.finished()
        assert len(request.messages) == 2
        assert "turn_interrupted_after_response" in caplog.text
        assert SECRET not in caplog.text

    @pytest.mark.parametrize("error", [STALE, errors.LanesDraining("k"), KeyError("a bug")])
    async def test_all_else_is_raised(self, error: Exception, way: str) -> None:
        """The server logs it, as it would any failure of a background task."""
        for settings in SETTINGS.values():
            app = StagedApp()
            says(app, start(200, EVENTS), chunk(b"data: 1\n\n", more=False), error=error)
            async with serving(laned(app, way=way, **settings)) as driver:
                request = post(driver, SECRET, "it")
                assert (await request.response()).body == b"data: 1\n\n"
                with pytest.raises(type(error)) as caught:
                    await request.finished()
            assert caught.value is error

    async def test_a_file_that_the_server_sends_is_the_end(self) -> None:
        """After `pathsend` nothing more is sent, whatever the type of the response."""
        app = StagedApp()
        says(app, start(200, EVENTS), {"type": "http.response.pathsend", "path": "/srv/file"}, error=INTERRUPTED)
        async with serving(laned(app), extensions=["http.response.pathsend"]) as driver:
            request = post(driver, SECRET, "it")
            await request.finished()
        assert len(request.messages) == 2

    async def test_trailers_are_the_end_where_they_were_promised(self) -> None:
        """The body's end is not."""
        trailers: Message = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
        for messages, complete in (([trailers], True), ([], False), ([{**trailers, "more_trailers": True}], False)):
            app = StagedApp()
            says(app, start(200, trailers=True), chunk(b"whole", more=False), *messages, error=INTERRUPTED)
            async with serving(laned(app), extensions=["http.response.trailers"]) as driver:
                request = post(driver, SECRET, "it")
                if complete:
                    await request.finished()
                else:
                    with pytest.raises(errors.TurnInterrupted):
                        await request.finished()


@pytest.mark.parametrize("error", [KeyError("a bug"), RuntimeError("another")])
async def test_a_failure_of_the_app_is_never_told_in_band(error: Exception, way: str) -> None:
    """Foreign exceptions go to the server, also from the middle of an event stream; the lane is free."""
    app = StagedApp()
    says(app, start(200, EVENTS), chunk(b"data: 1\n\n"), error=error)
    async with serving(laned(app, way=way)) as driver:
        request = post(driver, SECRET, "it")
        with pytest.raises(type(error)) as caught:
            await request.finished()
        assert caught.value is error
        app.release("next")
        assert (await post(driver, SECRET, "next").response()).status == 200
    assert len(request.messages) == 2


async def test_a_client_that_left_meanwhile_is_no_second_failure() -> None:
    """With `finish`, an error event that can not be sent any more is like any message to a client that left."""
    app = StagedApp()
    says(app, start(200, EVENTS), chunk(b"data: 1\n\n"), error=INTERRUPTED)
    middleware = laned(app, on_disconnect="finish")
    sent: list[Message] = []

    async def breaking(message: Message) -> None:
        sent.append(message)
        if len(sent) > 2:
            raise OSError("the client left")

    async with watched(middleware):
        await middleware(scope_of(SECRET), Wire().receive, breaking)
    assert len(sent) == 3
