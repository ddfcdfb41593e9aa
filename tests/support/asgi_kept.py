"""Requests that wait for a stream, and what they were sent."""

import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from support.asgi_staged import StagedApp, laned, post, serving
from turnlane import KeepAlive
from turnlane.testing import AsgiDriver, HttpRequest

__all__ = (
    "AT_ONCE",
    "EVENTS",
    "QUEUED",
    "STREAM",
    "ask_for_stream",
    "error_in",
    "kept",
    "kept_behind",
    "says",
)

QUEUED = b": queued\n"
EVENTS = (b"content-type", b"text/event-stream")
STREAM = b'{"stream": true}'
AT_ONCE = KeepAlive(after=0, every=3600)  # one comment line, and no time passes


def says(app: StagedApp, name: str, *messages: Message, error: BaseException | None = None) -> None:
    """Let the request of that name send these messages, and then fail if there is an error."""

    async def step(_: Scope, __: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error.with_traceback(None)

    app.steps[name] = step


def kept(
    app: Any, *, way: str = "short", driver: dict[str, Any] | None = None, **settings: Any
) -> AbstractAsyncContextManager[AsgiDriver]:
    """Drive a middleware that keeps alive, and look after it."""
    settings.setdefault("keepalive", AT_ONCE)
    return serving(laned(app, way=way, **settings), **(driver or {}))


def ask_for_stream(driver: AsgiDriver, name: str = "it", *, key: str = "k", **options: Any) -> HttpRequest:
    """Start a request that asks for a stream."""
    options.setdefault("body", STREAM)
    return post(driver, key, name, **options)


async def kept_behind(driver: AsgiDriver, app: StagedApp, name: str = "it", **options: Any) -> HttpRequest:
    """Start a request behind another one, "ahead", and return it once its first comment line was sent."""
    post(driver, "k", "ahead")
    await app.entered("ahead")
    request = ask_for_stream(driver, name, **options)
    assert await request.body_chunk() == QUEUED
    return request


def error_in(messages: Sequence[Any]) -> dict[str, Any]:
    """Return the document of the error event that ends a stream, and see that nothing is wrong with the event."""
    last = messages[-1]
    assert (last["type"], last["more_body"]) == ("http.response.body", False)
    lines = last["body"].decode().split("\n")
    assert lines[0] == "event: error"
    assert lines[2:] == ["", ""]
    document: dict[str, Any] = json.loads(lines[1].removeprefix("data: "))
    assert document["type"] == "error"
    assert set(document["error"]) >= {"message", "type", "param", "code"}
    return document
