"""The fuzzer sees what it is there to see: each of these middlewares has one fault."""

# The budget of a middleware is private; a fault in it is planted here.
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest

from support.fuzz_exchange import NAME
from support.fuzz_run import Campaign, alone, together
from turnlane import Enqueue, LaneMiddleware
from turnlane.asgi.body import RequestBody
from turnlane.lanes.line import Line, Waiter

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
INPUTS = 400


def raises(middleware: LaneMiddleware) -> Any:
    """Return a middleware that fails for some."""

    async def spoiled(scope: Scope, receive: Receive, send: Send) -> None:
        await middleware(scope, receive, send)
        raise LookupError("planted")

    return spoiled


def calls_twice(middleware: LaneMiddleware) -> Any:
    """Return a middleware that calls the app again."""

    async def spoiled(scope: Scope, receive: Receive, send: Send) -> None:
        await middleware(scope, receive, send)
        if scope[NAME].calls:
            await middleware.app(scope, receive, send)

    return spoiled


def loses_a_byte(middleware: LaneMiddleware) -> Any:
    """Return a middleware that gives the app less than was sent."""

    async def spoiled(scope: Scope, receive: Receive, send: Send) -> None:
        async def less() -> Any:
            message = await receive()
            return {**message, "body": message["body"][:-1]} if message.get("body") else message

        await middleware(scope, less, send)

    return spoiled


def loses_the_request(_: LaneMiddleware) -> Any:
    """Return a middleware that does nothing."""

    async def spoiled(scope: Scope, receive: Receive, send: Send) -> None: ...

    return spoiled


def injects_a_header(middleware: LaneMiddleware) -> Any:
    """Return a middleware that sends what the client wrote as a header."""

    async def spoiled(scope: Scope, receive: Receive, send: Send) -> None:
        async def more(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"x-echo", b"a\r\nb: c")]}
            await send(message)

        await middleware(scope, receive, more)

    return spoiled


def refuses_with_500(middleware: LaneMiddleware) -> Any:
    """Return a middleware whose refusals have another status."""

    async def spoiled(scope: Scope, receive: Receive, send: Send) -> None:
        async def other(message: Any) -> None:
            await send({**message, "status": 500} if message.get("status", 200) != 200 else message)

        await middleware(scope, receive, other)

    return spoiled


def refuses_everyone(middleware: LaneMiddleware) -> Any:
    """Return a middleware that sees no header, and so other keys."""

    async def spoiled(scope: Scope, receive: Receive, send: Send) -> None:
        given = scope.pop("headers", ())

        async def app(inner: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
            inner["headers"] = given
            await original(inner, receive, send)

        original, middleware.app = middleware.app, app
        await middleware(scope, receive, send)
        middleware.app = original

    return spoiled


def waits(middleware: LaneMiddleware) -> Any:
    """Return a middleware that waits where nobody is ahead."""

    async def spoiled(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.get_running_loop().create_future()

    return spoiled


def keeps_a_lane(middleware: LaneMiddleware) -> Any:
    """Return a middleware that does not let a lane go."""

    async def spoiled(scope: Scope, receive: Receive, send: Send) -> None:
        await middleware(scope, receive, send)
        middleware.runtime.lanes.gate.arrive("left behind", Enqueue())

    return spoiled


def keeps_bytes(middleware: LaneMiddleware) -> Any:
    """Return a middleware that forgets to give room back."""

    async def spoiled(scope: Scope, receive: Receive, send: Send) -> None:
        middleware._settings.budget.held += 1
        await middleware(scope, receive, send)

    return spoiled


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (raises, "LookupError: planted"),
        (calls_twice, "called 2 times"),
        (loses_a_byte, "the client sent|the extractor alone finds"),
        (loses_the_request, "neither was the app called nor the client answered"),
        (injects_a_header, "a header that ends its line"),
        (refuses_with_500, "refused with 500"),
        (refuses_everyone, "where the extractor alone finds"),
        (waits, "waits for <Future"),
        (keeps_a_lane, "holders"),
        (keeps_bytes, "bytes held"),
    ],
)
async def test_a_fault_is_seen(spoil: Callable[[LaneMiddleware], Any], seen: str, seed: int) -> None:
    """And told with the seed, the index and the command that shows it again."""
    with pytest.raises(AssertionError, match=seen) as caught:
        await alone(Campaign(seed=seed, count=INPUTS, spoil=spoil), "test_requests_alone")
    assert f"pytest tests/fuzz -k test_requests_alone --seed={seed} --fuzz-index=" in str(caught.value)


async def test_a_fault_is_seen_again_at_its_index(seed: int) -> None:
    """Without the inputs before it."""
    with pytest.raises(AssertionError) as first:
        await alone(Campaign(seed=seed, count=INPUTS, spoil=refuses_with_500), "test")
    index = int(str(first.value).split("index ")[1].split(";")[0])
    with pytest.raises(AssertionError) as second:
        await alone(Campaign(seed=seed, count=1, only=index, spoil=refuses_with_500), "test")
    assert str(second.value) == str(first.value)


async def test_a_line_that_is_no_line_is_seen(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Where the last to come is the first to go."""

    def push(line: Line, waiter: Waiter) -> None:
        waiter.line, waiter.next = line, line.head
        if line.head is None:
            line.tail = waiter
        else:
            line.head.previous = waiter
        line.head = waiter
        line.size += 1

    monkeypatch.setattr(Line, "append", push)
    with pytest.raises(AssertionError, match="ran in the order"):
        await together(Campaign(seed=seed, count=10 * INPUTS), "test")


async def test_a_body_lost_in_the_wait_is_seen(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Where the last byte read ahead is not replayed."""
    original = RequestBody.hand_over

    def hand_over(body: RequestBody) -> Any:
        if body._data:
            body._data.pop()
            body._budget.held -= 1
        return original(body)

    monkeypatch.setattr(RequestBody, "hand_over", hand_over)
    with pytest.raises(AssertionError, match="the client sent"):
        await together(Campaign(seed=seed, count=10 * INPUTS), "test")


async def test_a_client_that_left_unnoticed_is_seen(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Where nobody listens while a request waits."""

    def deaf(body: RequestBody, stop: object) -> None: ...

    monkeypatch.setattr(RequestBody, "watch", deaf)
    with pytest.raises(AssertionError, match="still waits although its client has left"):
        await together(Campaign(seed=seed, count=10 * INPUTS), "test")
