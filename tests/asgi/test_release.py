"""When the lane goes: after the app has returned, or at the end of the response."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from support.asgi_staged import StagedApp, answer_with, chunk, laned, post, serving, start
from turnlane import Turn, current_turn
from turnlane.hooks import TurnFinished
from turnlane.testing import Gates


def with_background(app: StagedApp, name: str = "it") -> list[Turn | None]:
    """Let a request answer at once and work on in the background until it is released; return what turns it saw."""
    seen: list[Turn | None] = []

    async def work() -> None:
        app.log.append("background begins")
        await app.released(name)
        seen.append(current_turn())
        app.log.append("background ends")

    async def step(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("whole", background=BackgroundTask(work))(scope, receive, send)

    app.steps[name] = step
    return seen


async def test_by_default_background_tasks_are_part_of_the_turn(way: str) -> None:
    """The client has its reply; the successor starts when the background task has ended."""
    app = StagedApp()
    seen = with_background(app)
    async with serving(laned(app, way=way)) as driver:
        request = post(driver, "alice", "it")
        assert (await request.response()).text == "whole"
        successor = post(driver, "alice", "next")
        await successor.until_idle()
        assert app.log == ["+it", "background begins"]
        app.release("it", "next")
        await successor.response()
    assert app.log == ["+it", "background begins", "background ends", "-it", "+next", "-next"]
    assert seen == [app.turns["it"]]


async def test_at_the_end_of_the_response_the_successor_starts_beside_the_background_task(way: str) -> None:
    """As the user chose; the background task is then in no turn any more."""
    app = StagedApp()
    seen = with_background(app)
    middleware = laned(app, way=way, release_on="response_end")
    async with serving(middleware) as driver:
        with Gates(middleware.runtime.hooks) as gates:
            request = post(driver, "alice", "it")
            await request.response()
            successor = post(driver, "alice", "next")
            app.release("next")
            await successor.response()
            assert "background ends" not in app.log
            app.release("it")
            await request.finished()
            await successor.finished()
            outcomes = [event.outcome for event in gates.at(TurnFinished).seen]
    assert outcomes == ["completed", "completed"]
    assert seen == [None]


async def test_a_stream_holds_the_lane_to_its_last_part(way: str) -> None:
    """Both ways: until then the successor waits."""
    for release_on in ("app_return", "response_end"):
        app = StagedApp()

        async def streaming(scope: Scope, receive: Receive, send: Send, app: StagedApp = app) -> None:
            async def parts() -> AsyncGenerator[bytes, None]:
                yield b"one"
                await app.released("it")
                yield b"two"

            await StreamingResponse(parts())(scope, receive, send)

        app.steps["it"] = streaming
        async with serving(laned(app, way=way, release_on=release_on)) as driver:
            request = post(driver, "alice", "it")
            assert await request.body_chunk() == b"one"
            successor = post(driver, "alice", "next")
            await successor.until_idle()
            assert app.log == ["+it"]
            app.release("it", "next")
            assert (await successor.response()).status == 200
            assert (await request.response()).body == b"onetwo"


async def test_the_cleanup_of_a_stream_is_part_of_the_turn(way: str) -> None:
    """What a generator does when it is closed ends before the successor starts."""
    app = StagedApp()

    async def streaming(_: Scope, __: Receive, send: Send) -> None:
        await send(start())
        try:
            await send(chunk(b"one"))
            await send(chunk(b"", more=False))
        finally:
            await asyncio.sleep(0)
            app.log.append("cleaned up")

    app.steps["it"] = streaming
    async with serving(laned(app, way=way)) as driver:
        post(driver, "alice", "it")
        app.release("next")
        await post(driver, "alice", "next").response()
    assert app.log == ["+it", "cleaned up", "-it", "+next", "-next"]


@pytest.mark.parametrize("release_on", ["app_return", "response_end"])
async def test_an_app_that_never_ends_its_response_lets_go_when_it_returns(way: str, release_on: str) -> None:
    """A response that is cut short, or no response at all."""
    app = StagedApp()

    async def half(_: Scope, __: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"half"))

    async def nothing(_: Scope, __: Receive, ___: Send) -> None:
        return

    app.steps.update(half=half, nothing=nothing)
    async with serving(laned(app, way=way, release_on=release_on)) as driver:
        for name in app.steps:
            await post(driver, "alice", name).finished()
        app.release("next")
        assert (await post(driver, "alice", "next").response()).status == 200


LAST: dict[str, list[Message]] = {
    "http.response.pathsend": [{"type": "http.response.pathsend", "path": "/srv/file"}],
    "http.response.zerocopysend": [{"type": "http.response.zerocopysend", "file": 3, "more_body": False}],
    "http.response.trailers": [chunk(b"", more=False), {"type": "http.response.trailers", "headers": []}],
}


@pytest.mark.parametrize("extension", LAST)
async def test_every_kind_of_end_is_one(extension: str) -> None:
    """A file the server sends, and trailers after the body, where they were promised."""
    app = StagedApp()

    async def step(_: Scope, __: Receive, send: Send) -> None:
        await send(start(200, trailers=extension == "http.response.trailers"))
        for message in LAST[extension]:
            turn = current_turn()
            assert turn is not None, "the lane went before the end"
            await send(message)
        await app.released("it")

    app.steps["it"] = step
    async with serving(laned(app, release_on="response_end"), extensions=[extension]) as driver:
        request = post(driver, "alice", "it")
        app.release("next")
        assert (await post(driver, "alice", "next").response()).status == 200
        assert not request.task.done()
        app.release("it")
        await request.finished()


async def test_the_session_is_touched_when_the_lane_goes() -> None:
    """Not when the background task has ended."""
    app = StagedApp()
    with_background(app)
    middleware = laned(app, way="sessions", release_on="response_end")
    sessions = middleware.runtime.sessions
    assert sessions is not None
    async with serving(middleware) as driver:
        request = post(driver, "alice", "it")
        await request.response()
        await request.until_idle()
        told = await sessions.get("alice")
        app.release("it")
        await request.finished()
        after = await sessions.get("alice")
    assert told is not None
    assert told.last_activity_at > told.created_at
    assert after == told


async def test_a_failure_in_the_background_frees_the_lane(way: str) -> None:
    """Both ways; the server sees it."""
    for release_on in ("app_return", "response_end"):
        app = StagedApp()

        async def failing(_: Scope, __: Receive, send: Send) -> None:
            await answer_with(send)
            raise KeyError("in the background")

        app.steps["it"] = failing
        async with serving(laned(app, way=way, release_on=release_on)) as driver:
            with pytest.raises(KeyError):
                await post(driver, "alice", "it").finished()
            app.release("next")
            assert (await post(driver, "alice", "next").response()).status == 200


async def test_an_interruption_does_not_reach_a_turn_that_has_let_go() -> None:
    """After the response's end the background task is nobody's turn, so nobody cancels it."""
    app = StagedApp()
    with_background(app)
    middleware = laned(app, release_on="response_end", policy="interrupt", turn_timeout=0.2)
    async with serving(middleware) as driver:
        request = post(driver, "alice", "it")
        await request.response()
        app.release("next")
        assert (await post(driver, "alice", "next").response()).status == 200
        assert not middleware.runtime.lanes.interrupt("alice", grace=0)
        beside = await post(driver, "bob", "beside").response()  # never released: a whole turn_timeout goes by
        assert beside.status == 504
        assert not request.task.done()
        app.release("it")
        await request.finished()
    assert "background ends" in app.log
