"""Keep-alive of requests whose messages another turn answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_groups import plus
from support.asgi_kept import AT_ONCE, EVENTS, QUEUED, ask_for_stream, error_in, kept_behind, says
from support.asgi_staged import NOBODY, StagedApp, answer_with, chunk, in_line, laned, post, serving, start
from turnlane import Coalesce, KeepAlive, Steer, current_turn
from turnlane.testing import HttpRequest

LAST = chunk(b"data: 1\n\n", more=False)


def body_of(messages: Sequence[Mapping[str, Any]]) -> bytes:
    """Return all that was sent of a body, without the comment lines."""
    return b"".join(message.get("body", b"") for message in messages[1:]).replace(QUEUED, b"")


def starts_of(request: HttpRequest) -> int:
    """Return how many responses were begun."""
    return [message["type"] for message in request.messages].count("http.response.start")


@pytest.mark.parametrize("redirect_status", [409, 202])
async def test_who_was_coalesced_is_told_in_the_stream(redirect_status: int) -> None:
    """With the turn that answers, whatever status it would have been told with."""
    app = StagedApp()
    says(app, "newest", start(200, EVENTS), LAST)
    policy = Coalesce(window=0, merge=plus)
    middleware = laned(app, keepalive=AT_ONCE, policy=policy, redirect_status=redirect_status)
    async with serving(middleware) as driver:
        first = await kept_behind(driver, app, "first")
        newest = ask_for_stream(driver, "newest")
        assert await newest.body_chunk() == QUEUED
        app.release("ahead")
        await first.finished()
        await newest.finished()
    document = error_in(first.messages)
    turn = app.turns["newest"]
    assert turn is not None
    assert (document["error"]["code"], document["into"], starts_of(first)) == ("turn_coalesced", turn.id, 1)
    assert body_of(newest.messages) == b"data: 1\n\n"


@pytest.mark.parametrize("redirect_status", [409, 202])
async def test_who_was_steered_is_told_in_the_stream(redirect_status: int) -> None:
    """By the turn that took it."""
    app = StagedApp()

    async def steered(_: Scope, __: Receive, send: Send) -> None:
        await app.released("ahead")
        turn = current_turn()
        assert turn is not None
        taken = turn.steering.take()
        assert taken is not None
        assert taken.done()
        await answer_with(send)

    app.steps["ahead"] = steered
    middleware = laned(app, keepalive=AT_ONCE, policy=Steer(), redirect_status=redirect_status)
    async with serving(middleware) as driver:
        request = await kept_behind(driver, app)
        app.release("ahead")
        await request.finished()
    assert (error_in(request.messages)["error"]["code"], starts_of(request)) == ("turn_steered", 1)


@pytest.mark.parametrize("release_on", ["app_return", "response_end"])
@pytest.mark.parametrize("whole", [True, False])
async def test_a_shared_stream_goes_on_after_the_comment_lines(whole: bool, release_on: str) -> None:
    """Each has one response; where there is no whole one to share, the others are told so in theirs."""
    app = StagedApp()
    says(app, "newest", start(200, EVENTS), LAST if whole else chunk(b"data"), error=None if whole else LookupError())
    policy = Coalesce(window=0, merge=plus, share_result=True)
    middleware = laned(app, keepalive=AT_ONCE, policy=policy, release_on=release_on)
    async with serving(middleware) as driver:
        first = await kept_behind(driver, app, "first")
        newest = ask_for_stream(driver, "newest")
        assert await newest.body_chunk() == QUEUED
        app.release("ahead")
        await first.finished()
        if whole:
            await newest.finished()
            assert body_of(first.messages) == body_of(newest.messages) == b"data: 1\n\n"
        else:
            with pytest.raises(LookupError):
                await newest.finished()
            assert error_in(first.messages)["error"]["code"] == "turn_coalesced"
    assert starts_of(first) == starts_of(newest) == 1


async def test_a_shared_response_is_compressed_for_nobody_by_the_app() -> None:
    """Not all who get it may read that: one has comment lines already, one asked for it as it is."""
    app = StagedApp()

    async def compress(scope: Scope, _: Receive, send: Send) -> None:
        encoded = any(name == b"accept-encoding" for name, _ in scope["headers"])
        encoding = [(b"content-encoding", b"gzip")] if encoded else []
        await send(start(200, EVENTS, *encoding))
        await send(LAST)

    app.steps["newest"] = compress
    policy = Coalesce(window=0, merge=plus, share_result=True)
    middleware = laned(app, keepalive=KeepAlive(after=0, every=3600), policy=policy)
    plain = laned(app, lanes=middleware.runtime.lanes, policy=policy)
    async with serving(middleware) as driver, serving(plain) as other:
        first = await kept_behind(driver, app, "first")
        second = ask_for_stream(other, "second")
        await in_line(middleware, 2)
        newest = ask_for_stream(other, "newest", headers={"accept-encoding": "gzip"})
        await in_line(middleware, 3)
        app.release("ahead")
        responses = [await request.response() for request in (second, newest)]
        await first.finished()
    assert body_of(first.messages) == b"data: 1\n\n"
    assert ["content-encoding" in response.headers for response in responses] == [False, False]


async def test_a_member_that_has_left_takes_its_message_along() -> None:
    """As servers say it that raise where something is sent: here by its comment line."""
    app = StagedApp(held=False)
    policy = Coalesce(window=0, merge=plus)

    async def hold(_: Scope, __: Receive, send: Send) -> None:
        await app.released("ahead")
        await answer_with(send)

    app.steps["ahead"] = hold
    middleware = laned(app, keepalive=KeepAlive(after=0, every=0.01), policy=policy)
    lanes = middleware.runtime.lanes
    async with serving(middleware, spec_version="2.4") as driver:
        first = await kept_behind(driver, app, "first")
        others: list[Any] = [post(driver, "k", name, body=name.encode()) for name in ("second", "newest")]
        await in_line(middleware, 3)
        first.disconnect()
        await first.finished()
        assert lanes.statistics().waiting == 2
        app.release("ahead")
        for request in others:
            await request.finished()
    assert app.bodies["newest"] == b"second+newest"
    assert NOBODY[0] not in first.messages
