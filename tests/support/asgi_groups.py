"""Requests that wait side by side for one that holds their lane."""

from collections.abc import Sequence
from typing import Any

from starlette.types import Receive, Scope, Send

from support.asgi_staged import StagedApp, answer_with, in_line, post
from turnlane import LaneMiddleware
from turnlane.messages import HttpMessage
from turnlane.testing import AsgiDriver, HttpRequest

__all__ = ("WAYS", "held_until_released", "plus", "redirected", "refuse", "waiting")

WAYS = ["told", "long", "sessions"]
"""The ways a request may go that has a message: never the short one."""


def plus(several: Sequence[HttpMessage]) -> HttpMessage:
    """Merge bodies of any kind."""
    return HttpMessage(b"+".join(message.body for message in several), "text/merged")


def refuse(several: object) -> HttpMessage:
    """Merge nothing."""
    raise ValueError("not these")


def held_until_released(app: StagedApp) -> Any:
    """Return what a request does that stays until it is released."""

    async def stay(_: Scope, __: Receive, send: Send) -> None:
        await app.released("holder")
        await answer_with(send)

    return stay


async def waiting(
    driver: AsgiDriver, middleware: LaneMiddleware, app: StagedApp, *names: str, **options: Any
) -> list[HttpRequest]:
    """Let a request hold the lane and others wait for it, each with its name for a body."""
    requests = [post(driver, "alice", "holder")]
    await app.entered("holder")
    for number, name in enumerate(names, start=1):
        requests.append(post(driver, "alice", name, body=name.encode(), **options))
        await in_line(middleware, number)
    return requests


async def redirected(request: HttpRequest, into: str, *, status: int = 409) -> None:
    """Check that a request was answered with the turn that answers its message."""
    response = await request.response()
    await request.finished()
    assert (response.status, response.json()["error"]["code"]) == (status, "turn_coalesced")
    assert (response.json()["status"], response.json()["into"]) == (status, into)
    assert response.headers["x-should-retry"] == "false"
