"""The ASGI driver: HTTP requests step by step."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from turnlane.testing import AsgiDriver

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    """Return a message with a part of the response's body."""
    return {"type": "http.response.body", "body": body, "more_body": more}


def says(*messages: dict[str, Any]) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return an app that sends just these messages."""

    async def app(_: Scope, __: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


async def echo(_: Scope, receive: Receive, send: Send) -> None:
    """Answer each part of the body as it comes."""
    await send(START)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        await send(part(message["body"], more=message["more_body"]))
        if not message["more_body"]:
            return


class TestRequests:
    """What the app is called with, and what the tester gets back."""

    async def test_the_scope_is_that_of_a_server(self) -> None:
        """Path decoded, the rest as bytes, state copied."""
        driver = AsgiDriver(says(START, part(b"", more=False)), extensions=["http.response.pathsend"])
        state = {"n": 1}
        request = driver.start(
            "post", "/a%20b?c=%20", headers={"X-Key": "zo\u00eb"}, http_version="2", root_path="/api", state=state
        )
        await request.response()
        assert request.scope["type"] == "http"
        assert (request.scope["method"], request.scope["http_version"]) == ("POST", "2")
        assert (request.scope["path"], request.scope["root_path"]) == ("/api/a b", "/api")
        assert (request.scope["raw_path"], request.scope["query_string"]) == (b"/api/a%20b", b"c=%20")
        assert request.scope["headers"] == [(b"host", b"testserver"), (b"x-key", "zo\u00eb".encode())]
        assert request.scope["extensions"] == {"http.response.pathsend": {}}
        assert request.scope["state"] == state
        assert request.scope["state"] is not state

    async def test_returns_the_whole_response(self) -> None:
        """Status, headers and body, in whatever parts they came."""
        start = {**START, "status": 201, "headers": [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]}
        async with AsgiDriver(says(start, part(b'{"x":'), part(b"", more=True), part(b"1}", more=False))) as driver:
            response = await driver.start().response()
        assert (response.status, response.headers, response.text) == (201, {"a": "1, 3", "b": "2"}, '{"x":1}')
        assert response.raw_headers == ((b"a", b"1"), (b"b", b"2"), (b"a", b"3"))
        assert response.json() == {"x": 1}

    async def test_sends_a_body_in_parts_and_reads_the_answer_between(self) -> None:
        """A dialogue, which whole-request clients can not have."""
        async with AsgiDriver(echo) as driver, driver.start("POST", "/", body=None) as request:
            for chunk in (b"one", b"two"):
                await request.send_body(chunk)
                assert await request.body_chunk() == chunk
            await request.send_body(b"", more=False)
            assert await request.body_chunk() == b""
            assert (await request.response()).body == b"onetwo"
            await request.finished()
            with pytest.raises(ValueError, match="to its end"):
                await request.send_body(b"more")

    async def test_reads_message_by_message(self) -> None:
        """Up to the last, after which there is none."""
        async with AsgiDriver(says(START, part(b"a"), part(b"", more=False))) as driver:
            request = driver.start()
            seen = [(await request.next_message())["type"] for _ in range(3)]
            assert seen == ["http.response.start", "http.response.body", "http.response.body"]
            with pytest.raises(EOFError):
                await request.next_message()

    async def test_backpressure_holds_the_app_at_each_message(self) -> None:
        """The app is not further than what the tester has taken."""
        done: list[int] = []

        async def app(_: Scope, __: Receive, send: Send) -> None:
            await send(START)
            for number in range(3):
                await send(part(b"x", more=number < 2))
                done.append(number)

        async with AsgiDriver(app) as driver:
            request = driver.start(backpressure=True)
            await request.next_message()
            await request.until_idle()
            assert done == []
            await request.body_chunk()
            await request.until_idle()
            assert done == [0]
            assert (await request.response()).body == b"xxx"
            await request.finished()
            assert done == [0, 1, 2]

    async def test_work_after_the_response_is_waited_for_by_finished(self) -> None:
        """The response is there while the app still runs."""
        go, ran = asyncio.Event(), asyncio.Event()

        async def app(_: Scope, receive: Receive, send: Send) -> None:
            await says(START, part(b"", more=False))(_, receive, send)
            await go.wait()
            ran.set()

        async with AsgiDriver(app) as driver:
            request = driver.start()
            await request.response()
            assert not request.task.done()
            go.set()
            await request.finished()
            assert ran.is_set()

    async def test_the_app_sees_no_context_of_the_test(self) -> None:
        """As little as it would behind a server."""
        variable = contextvars.ContextVar("variable", default="server")
        variable.set("test")
        seen: list[str] = []

        async def app(_: Scope, receive: Receive, send: Send) -> None:
            seen.append(variable.get())
            await says(START, part(b"", more=False))(_, receive, send)

        async with AsgiDriver(app) as driver:
            await driver.start().response()
        assert seen == ["server"]


class TestDisconnect:
    """A client that leaves."""

    @pytest.mark.parametrize(("lose_body", "expected"), [(False, ["http.request"]), (True, [])])
    async def test_the_app_is_told(self, lose_body: bool, expected: list[str]) -> None:
        """After what it has not received of the body, unless that is lost; and again at each receive."""
        seen: list[str] = []
        go = asyncio.Event()

        async def app(_: Scope, receive: Receive, send: Send) -> None:
            await go.wait()
            while seen[-2:] != ["http.disconnect"] * 2:
                seen.append((await receive())["type"])

        async with AsgiDriver(app) as driver:
            request = driver.start("POST", body=None)
            await request.send_body(b"half")
            request.disconnect(lose_body=lose_body)
            with pytest.raises(ValueError, match="the client has gone"):
                await request.send_body(b"rest")
            go.set()
            await request.finished()
        assert seen == [*expected, "http.disconnect", "http.disconnect"]

    async def test_ends_a_receive_that_waits(self) -> None:
        """The reliable sign that a client has gone."""
        async with AsgiDriver(echo) as driver:
            request = driver.start(body=None)
            await request.until_idle()
            assert not request.task.done()
            request.disconnect()
            await request.finished()

    async def test_send_goes_on_without_an_error(self) -> None:
        """As with real servers; what is sent is still recorded, and nothing holds the app back."""
        async with AsgiDriver(says(START, part(b"a"), part(b"b", more=False))) as driver:
            request = driver.start(backpressure=True)
            await request.next_message()
            request.disconnect()
            await request.finished()
            assert len(request.messages) == 3

    async def test_comes_after_the_response_by_itself(self) -> None:
        """An app that listens on is told, as servers do, once its response is complete."""

        async def app(_: Scope, receive: Receive, send: Send) -> None:
            await says(START, part(b"", more=False))(_, receive, send)
            assert (await receive())["type"] == "http.request"
            assert (await receive())["type"] == "http.disconnect"

        async with AsgiDriver(app) as driver:
            await driver.start().finished()
