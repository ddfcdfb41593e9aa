"""The ASGI driver: how the end of an app reaches the tester, and the rules it holds an app to."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import pytest

from turnlane.testing import AsgiDriver, AsgiProtocolViolation

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


async def hang(_: Scope, __: Receive, ___: Send) -> None:
    """Never answer."""
    await asyncio.Event().wait()


class TestEndings:
    """How the end of the app reaches the tester."""

    async def test_an_exception_is_raised_to_the_tester(self) -> None:
        """By whatever waits for the app, each time."""

        async def app(_: Scope, __: Receive, send: Send) -> None:
            await send(START)
            raise KeyError("mine")

        async with AsgiDriver(app) as driver:
            request = driver.start()
            await request.next_message()
            for wait in (request.next_message, request.response, request.finished, request.until_idle):
                with pytest.raises(KeyError, match="mine"):
                    await wait()

    async def test_an_exception_nobody_was_told_is_raised_at_the_end(self) -> None:
        """Even if the response had been complete."""

        async def app(_: Scope, receive: Receive, send: Send) -> None:
            await says(START, part(b"", more=False))(_, receive, send)
            raise KeyError("late")

        with pytest.raises(KeyError, match="late"):
            async with AsgiDriver(app) as driver:
                await driver.start().response()

    async def test_the_error_of_the_test_is_the_one_to_see(self) -> None:
        """What the app raises besides does not hide it."""

        async def fail(driver: AsgiDriver) -> None:
            async with driver:
                await driver.start().response()
                raise ZeroDivisionError

        async def app(_: Scope, receive: Receive, send: Send) -> None:
            await says(START, part(b"", more=False))(_, receive, send)
            raise KeyError("late")

        with pytest.raises(ZeroDivisionError):
            await fail(AsgiDriver(app))

    async def test_a_timeout_of_the_app_is_not_mistaken_for_the_guard(self) -> None:
        """The app's own TimeoutError comes through as it is."""

        async def app(_: Scope, __: Receive, ___: Send) -> None:
            raise TimeoutError("of the app")

        async with AsgiDriver(app) as driver:
            with pytest.raises(TimeoutError, match="of the app"):
                await driver.start().response()

    async def test_a_wait_is_bounded_and_says_where_the_app_stands(self) -> None:
        """A hang becomes a failure with a place."""
        async with AsgiDriver(hang, deadline=0.02) as driver:
            with pytest.raises(TimeoutError, match=r"(?s)sent another message within 0.02 s.*Event\(\)\.wait\(\)"):
                await driver.start().response()

    async def test_an_incomplete_response_is_a_violation(self) -> None:
        """An app that just returns has not answered."""
        async with AsgiDriver(says(START, part(b"a"))) as driver:
            with pytest.raises(AsgiProtocolViolation, match="returned before"):
                await driver.start().response()

    async def test_cancel_ends_the_app(self) -> None:
        """With its cleanup, and bounded."""
        cleaned: list[bool] = []

        async def app(_: Scope, __: Receive, ___: Send) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append(True)

        request = AsgiDriver(app).start()
        await request.until_idle()
        await request.cancel()
        assert cleaned == [True]
        assert request.task.cancelled()
        await request.cancel()
        with pytest.raises(RuntimeError, match="was cancelled before"):
            await request.response()

    async def test_an_app_that_will_not_end_is_reported(self) -> None:
        """Swallowing a cancellation is a bug, not a hang of the test."""
        go = asyncio.Event()

        async def app(_: Scope, __: Receive, ___: Send) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await go.wait()

        request = AsgiDriver(app, deadline=0.02).start()
        await request.until_idle()
        with pytest.raises(TimeoutError, match="after it was cancelled"):
            await request.cancel()
        go.set()
        await request.finished()

    async def test_leaving_the_driver_ends_every_request(self) -> None:
        """No task stays behind."""
        async with AsgiDriver(hang) as driver:
            requests = [driver.start() for _ in range(3)]
            await requests[0].until_idle()
            assert "running=3" in repr(driver)
        assert all(request.task.cancelled() for request in requests)

    def test_refuses_a_deadline_that_is_none(self) -> None:
        """Every wait has an end."""
        with pytest.raises(ValueError, match="deadline"):
            AsgiDriver(hang, deadline=0)


class TestRules:
    """What the ASGI specification forbids."""

    async def test_a_status_may_be_one_of_the_standard_library(self) -> None:
        """As frameworks pass on what an endpoint says; the tester sees the number."""

        async def app(_: Scope, __: Receive, send: Send) -> None:
            await send({**START, "status": HTTPStatus.NOT_FOUND})
            await send(part(b"", more=False))

        async with AsgiDriver(app) as driver:
            status = (await driver.start().response()).status
        assert (status, type(status)) == (404, int)

    @pytest.mark.parametrize(
        ("messages", "problem"),
        [
            ([part(b"a")], "before http.response.start"),
            ([START, START], "start twice"),
            ([START, part(b"", more=False), part(b"a")], "after the end of the response"),
            ([START, {"type": "http.response.body", "body": "text"}], "body of str"),
            ([START, {"type": "http.response.body", "more_body": 1}], "not a bool"),
            ([{**START, "status": "200"}], "not a status"),
            ([{**START, "status": True}], "not a status"),
            ([{**START, "headers": [("a", "b")]}], "not bytes"),
            ([{**START, "headers": [(b"a", b"b\r\nc: d")]}], "line end"),
            ([START, {"type": "http.response.pathsend", "path": "/x"}], "not offered"),
            ([{"type": "http.response.debug"}], "not offered"),
            ([{"type": "websocket.accept"}], "not offered"),
            ([{"status": 200}], "without a type"),
        ],
    )
    async def test_breaking_a_rule_is_told_to_app_and_tester(
        self, messages: list[dict[str, Any]], problem: str
    ) -> None:
        """Also when the app swallows it."""
        swallowed: list[BaseException] = []

        async def app(_: Scope, __: Receive, send: Send) -> None:
            for message in messages:
                try:
                    await send(message)
                except AsgiProtocolViolation as violation:
                    swallowed.append(violation)

        request = AsgiDriver(app).start()
        await asyncio.wait({request.task})
        with pytest.raises(AsgiProtocolViolation, match=problem) as caught:
            await request.finished()
        assert swallowed == [caught.value]

    async def test_offered_extensions_are_accepted(self) -> None:
        """A file sent by the server, announcements, and trailers that were promised."""
        names = ["http.response.pathsend", "http.response.trailers", "http.response.early_hint"]
        hint = {"type": "http.response.early_hint", "links": [b"</a.css>"]}
        file = {"type": "http.response.pathsend", "path": "/x"}
        async with AsgiDriver(says(hint, START, file), extensions=names) as driver:
            assert (await driver.start().response()).body == b""
        trailers = {"type": "http.response.trailers", "headers": [(b"a", b"b")]}
        messages = [{**START, "trailers": True}, part(b"x", more=False), trailers]
        async with AsgiDriver(says(*messages), extensions=names) as driver:
            assert (await driver.start().response()).body == b"x"
        with pytest.raises(AsgiProtocolViolation, match="not announced"):
            async with AsgiDriver(says(START, trailers), extensions=names) as driver:
                await driver.start().response()
