"""`on_disconnect="finish"`: a turn that runs is not disturbed by its client's leaving."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from support.asgi_staged import StagedApp, answer_with, chunk, in_line, laned, passes, post, serving, start, watched
from support.asgi_wire import Wire, scope_of


def finishing(app: Any, **settings: Any) -> Any:
    """Return the middleware that lets turns finish."""
    return laned(app, on_disconnect="finish", **settings)


@pytest.mark.parametrize("waited", [False, True])
async def test_the_app_does_not_hear_of_it_before_its_response_has_ended(waited: bool) -> None:
    """It waits for a disconnect in vain, as if the client were there; when it has answered it is told."""
    app = StagedApp()
    heard: list[str] = []

    async def listen(_: Scope, receive: Receive, send: Send) -> None:
        heard.append((await receive())["type"])

        async def ear() -> None:
            heard.append((await receive())["type"])
            app.log.append("told")

        task = asyncio.create_task(ear())
        await app.released("it")
        app.log.append("answers")
        await answer_with(send)
        await task

    app.steps["it"] = listen
    async with serving(finishing(app)) as driver:
        if waited:
            post(driver, "alice", "holder")
            await app.entered("holder")
        request = post(driver, "alice", "it")
        await request.until_idle()
        app.release("holder")
        await app.entered("it")
        await request.until_idle()
        request.disconnect()
        await request.until_idle()
        assert heard == ["http.request"]
        app.release("it")
        await request.finished()
    assert heard == ["http.request", "http.disconnect"]
    assert app.log[-3:] == ["answers", "told", "-it"]


async def test_by_default_the_app_hears_of_it() -> None:
    """The control of the test above."""
    app = StagedApp()
    heard: list[str] = []

    async def listen(_: Scope, receive: Receive, __: Send) -> None:
        heard.extend([(await receive())["type"], (await receive())["type"]])

    app.steps["it"] = listen
    async with serving(laned(app)) as driver:
        request = post(driver, "alice", "it")
        await app.entered("it")
        request.disconnect()
        await request.finished()
    assert heard == ["http.request", "http.disconnect"]


@pytest.mark.parametrize("spec_version", ["2.0", "2.4"])
async def test_a_stream_runs_to_its_end(spec_version: str) -> None:
    """Starlette's responses listen for the client, or mind that sending fails; neither ends the turn early."""
    app = StagedApp()
    sent: list[Message] = []
    gone = False

    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        async def parts() -> AsyncGenerator[bytes, None]:
            yield b"one"
            await app.released("it")
            yield b"two"
            app.log.append("finished")

        await StreamingResponse(parts())(scope, receive, send)

    async def send(message: Message) -> None:
        if gone:
            raise OSError("the client left")
        sent.append(message)

    app.steps["it"] = streaming
    middleware = finishing(app)
    wire = Wire()
    wire.send = send  # type: ignore[method-assign]
    async with watched(middleware):
        scope = scope_of("alice", asgi={"version": "3.0", "spec_version": spec_version})
        task = wire.call(middleware, scope)
        wire.body(b"")
        await app.entered("it")
        await passes()
        gone = True
        wire.disconnect()
        await passes()
        app.release("it")
        await task
    assert app.log == ["+it", "finished", "-it"]
    assert [message.get("body") for message in sent] == [None, b"one"]


@pytest.mark.parametrize("settings", [{}, {"release_on": "response_end"}])
async def test_without_it_a_failing_send_ends_the_app(settings: Any) -> None:
    """The control: `OSError` is the app's to deal with."""

    async def own(_: Scope, __: Receive, send: Send) -> None:
        await answer_with(send)

    async def send(_: Message) -> None:
        raise OSError("the client left")

    middleware = laned(own, **settings)
    async with watched(middleware):
        with pytest.raises(OSError, match="the client left"):
            await middleware(scope_of("alice"), Wire().receive, send)


@pytest.mark.parametrize("failure", [RuntimeError("a broken server"), ValueError("another")])
async def test_other_failures_of_send_are_not_hidden(failure: Exception) -> None:
    """Only what servers raise for a client that left is swallowed."""

    async def own(_: Scope, __: Receive, send: Send) -> None:
        await answer_with(send)

    async def send(_: Message) -> None:
        raise failure

    middleware = finishing(own)
    async with watched(middleware):
        with pytest.raises(type(failure)):
            await middleware(scope_of("alice"), Wire().receive, send)


@pytest.mark.parametrize("waited", [False, True])
async def test_a_body_that_never_ends_is_still_told(waited: bool) -> None:
    """Without the whole message there is no turn to finish: the app learns that the rest does not come."""
    app = StagedApp()
    failures: list[str] = []

    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await Request(scope, receive).body()
        except ClientDisconnect:
            failures.append("left")
        await answer_with(send)

    app.steps["it"] = reading
    async with serving(finishing(app)) as driver:
        if waited:
            post(driver, "alice", "holder")
            await app.entered("holder")
        request = post(driver, "alice", "it", body=None)
        await request.send_body(b"half")
        await request.until_idle()
        app.release("holder")
        await app.entered("it")
        request.disconnect()
        await request.finished()
    assert failures == ["left"]


async def test_a_client_that_left_before_its_body_is_told_of() -> None:
    """There is nothing to finish: the app learns that no message comes."""
    app = StagedApp()
    heard: list[str] = []

    async def listen(_: Scope, receive: Receive, __: Send) -> None:
        heard.append((await receive())["type"])

    app.steps["it"] = listen
    async with serving(finishing(app)) as driver:
        request = post(driver, "alice", "it", body=None)
        await app.entered("it")
        request.disconnect()
        await request.finished()
    assert heard == ["http.disconnect"]


async def test_a_client_that_leaves_while_it_waits_still_leaves_the_line() -> None:
    """There is no running turn yet to finish."""
    app = StagedApp()
    middleware = finishing(app)
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        request = post(driver, "alice", "it")
        await in_line(middleware, 1)
        request.disconnect()
        await request.finished()
        app.release("holder")
    assert "+it" not in app.log


async def test_the_successor_starts_when_the_turn_has_finished() -> None:
    """Not when the client left."""
    app = StagedApp()
    async with serving(finishing(app)) as driver:
        request = post(driver, "alice", "it")
        await app.entered("it")
        successor = post(driver, "alice", "next")
        await successor.until_idle()
        request.disconnect()
        await successor.until_idle()
        assert app.log == ["+it"]
        app.release("it", "next")
        await successor.response()
    assert app.log == ["+it", "-it", "+next", "-next"]


async def test_together_with_release_at_the_end_of_the_response() -> None:
    """The end counts although nobody heard it: the lane goes, the background goes on."""
    app = StagedApp()

    async def own(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await app.released("it")
        await send(start())
        await send(chunk(b"", more=False))
        await app.released("background")

    app.steps["it"] = own
    async with serving(finishing(app, release_on="response_end")) as driver:
        request = post(driver, "alice", "it")
        await app.entered("it")
        request.disconnect()
        app.release("it", "next")
        assert (await post(driver, "alice", "next").response()).status == 200
        assert not request.task.done()
        app.release("background")
        await request.finished()


async def test_a_refusal_goes_to_whoever_is_left() -> None:
    """A turn that ends with an error after its client left is no failure of the server."""
    app = StagedApp()

    async def send(_: Message) -> None:
        raise OSError("the client left")

    middleware = finishing(app, turn_timeout=0.01)
    wire = Wire()
    wire.body(b"")
    async with watched(middleware):
        await middleware(scope_of("alice"), wire.receive, send)
    assert app.log == ["+it", "-it"]
