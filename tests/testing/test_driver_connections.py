"""The ASGI driver: WebSockets and the lifespan."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from turnlane.testing import AsgiDriver, AsgiProtocolViolation, LifespanFailed

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
DENIAL = "websocket.http.response"
ACCEPT = {"type": "websocket.accept"}


def says(*messages: dict[str, Any]) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return an app that sends just these messages."""

    async def app(_: Scope, __: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer each message with itself, and the client's goodbye with its code on the scope."""
    assert (await receive())["type"] == "websocket.connect"
    await send({**ACCEPT, "subprotocol": scope["subprotocols"][0]})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            scope["state"]["code"] = message["code"]
            return
        if message.get("text") == "bye":
            await send({"type": "websocket.close", "code": 1000})
            return
        await send({**message, "type": "websocket.send"})


class TestWebSocket:
    """AsgiDriver.start_websocket."""

    async def test_talks_in_both_directions(self) -> None:
        """Text and bytes, until the app closes."""
        async with AsgiDriver(echo) as driver:
            connection = driver.start_websocket("/chat?x=1", headers={"x-key": "a"}, subprotocols=["v1"])
            assert connection.scope["type"] == "websocket"
            assert await connection.accepted() == "v1"
            for data in ("text", b"bytes", ""):
                connection.send(data)
                assert await connection.receive() == data
            connection.send("bye")
            with pytest.raises(EOFError):
                await connection.receive()
            with pytest.raises(ValueError, match="closed"):
                connection.send("more")
            await connection.finished()

    async def test_the_client_may_leave(self) -> None:
        """With the code of its choice."""
        async with AsgiDriver(echo) as driver:
            connection = driver.start_websocket(subprotocols=["v1"])
            await connection.accepted()
            connection.disconnect(1001)
            await connection.finished()
            assert connection.scope["state"]["code"] == 1001
            with pytest.raises(ValueError, match="closed"):
                connection.send("more")

    async def test_a_refusal_is_an_error(self) -> None:
        """Closed, or denied with a response where the server offers that."""
        async with AsgiDriver(says({"type": "websocket.close", "code": 1013})) as driver:
            with pytest.raises(ConnectionRefusedError, match="1013"):
                await driver.start_websocket().accepted()
        start = {"type": f"{DENIAL}.start", "status": 503}
        body = {"type": f"{DENIAL}.body", "body": b"busy"}
        async with AsgiDriver(says(start, body), extensions=[DENIAL]) as driver:
            with pytest.raises(ConnectionRefusedError, match="503"):
                await driver.start_websocket().accepted()

    @pytest.mark.parametrize(
        ("messages", "problem"),
        [
            ([{"type": "websocket.send", "text": "a"}], "before websocket.accept"),
            ([ACCEPT, ACCEPT], "accept twice"),
            ([ACCEPT, {"type": "websocket.send"}], "either text or bytes"),
            ([ACCEPT, {"type": "websocket.send", "text": "a", "bytes": b"b"}], "either text or bytes"),
            ([ACCEPT, {"type": "websocket.send", "text": b"a"}], "another type"),
            ([{"type": "websocket.close"}, ACCEPT], "after the end"),
            ([{"type": "http.response.start"}], "not a message of a websocket"),
            ([{"type": f"{DENIAL}.start"}], "not offered"),
        ],
    )
    async def test_breaking_a_rule_is_told_to_the_tester(self, messages: list[dict[str, Any]], problem: str) -> None:
        """As with requests."""
        with pytest.raises(AsgiProtocolViolation, match=problem):
            async with AsgiDriver(says(*messages)) as driver:
                await driver.start_websocket().finished()


def lifespan_app(**answers: Any) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return an app that answers each phase of its lifespan, and requests with their state."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{phase}"
                scope["state"][phase] = True
                await send(answers.get(phase, {"type": f"lifespan.{phase}.complete"}))
            return
        await send({"type": "http.response.start", "status": 200 if "startup" in scope["state"] else 503})
        await send({"type": "http.response.body"})

    return app


class TestLifespan:
    """AsgiDriver.lifespan."""

    async def test_surrounds_the_block(self) -> None:
        """Requests within get a copy of its state."""
        async with AsgiDriver(lifespan_app()) as driver:
            assert (await driver.start().response()).status == 503
            async with driver.lifespan() as state:
                request = driver.start(state={"mine": 1})
                assert (await request.response()).status == 200
                assert request.scope["state"] == {"startup": True, "mine": 1}
            assert state == {"startup": True, "shutdown": True}
            assert (await driver.start().response()).status == 503

    @pytest.mark.parametrize("phase", ["startup", "shutdown"])
    async def test_a_failure_is_raised_with_its_message(self, phase: str) -> None:
        """At start-up the block does not run."""
        answer = {"type": f"lifespan.{phase}.failed", "message": "no database"}
        driver = AsgiDriver(lifespan_app(**{phase: answer}))
        ran = False
        with pytest.raises(LifespanFailed, match=f"{phase}: no database"):
            async with driver.lifespan():
                ran = True
        assert ran == (phase == "shutdown")

    async def test_shuts_down_after_a_block_that_failed(self) -> None:
        """The app can clean up, and the error of the block is the one to see."""
        driver = AsgiDriver(lifespan_app())
        state: dict[str, Any] = {}
        with pytest.raises(ZeroDivisionError):
            async with driver.lifespan() as state:
                raise ZeroDivisionError
        assert state["shutdown"]

    async def test_an_answer_out_of_place_is_a_violation(self) -> None:
        """Shut-down is not over before it was asked for."""
        app = lifespan_app(startup={"type": "lifespan.shutdown.complete"})
        with pytest.raises(AsgiProtocolViolation, match=r"does not answer lifespan\.startup"):
            async with AsgiDriver(app).lifespan():
                pass

    async def test_an_app_without_a_lifespan_says_so(self) -> None:
        """Its own error comes through."""

        async def app(scope: Scope, _: Receive, __: Send) -> None:
            raise NotImplementedError(scope["type"])

        with pytest.raises(NotImplementedError, match="lifespan"):
            async with AsgiDriver(app).lifespan():
                pass
