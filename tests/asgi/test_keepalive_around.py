"""Keep-alive among other middlewares, and with the other settings of this one."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from support.asgi_kept import AT_ONCE, EVENTS, QUEUED, ask_for_stream, error_in, kept, kept_behind, says
from support.asgi_staged import StagedApp, chunk, header_of, laned, post, serving, start, watched
from turnlane import LaneMiddleware, errors
from turnlane.testing import AsgiDriver

LAST = chunk(b"data: 1\n\n", more=False)


class TestCompression:
    """Middlewares that compress, on either side."""

    async def test_the_app_is_asked_for_nothing_compressed(self) -> None:
        """Only where comment lines were sent: the response says nothing of an encoding."""
        app = StagedApp()
        says(app, "it", start(200, EVENTS), LAST)
        async with kept(app) as driver:
            request = await kept_behind(driver, app, headers={"accept-encoding": "gzip", "x-other": "1"})
            soon = ask_for_stream(driver, "soon", key="other", headers={"accept-encoding": "gzip"})
            app.release("ahead", "soon")
            await request.finished()
            await soon.finished()
        assert header_of(app.scopes["it"], b"accept-encoding") == b""
        assert header_of(app.scopes["it"], b"x-other") == b"1"
        assert header_of(app.scopes["soon"], b"accept-encoding") == b"gzip"

    @pytest.mark.parametrize("place", ["inside", "outside"])
    async def test_starlettes_leaves_the_stream_alone(self, place: str) -> None:
        """Comment lines come one by one, and then the events, not compressed."""
        app = StagedApp()
        says(app, "it", start(200, EVENTS), *[chunk(b"data: " + b"x" * 600 + b"\n\n")] * 2, LAST)
        lanes = laned(GZipMiddleware(app) if place == "inside" else app, keepalive=AT_ONCE)
        outermost: Any = GZipMiddleware(lanes) if place == "outside" else lanes
        async with watched(lanes), AsgiDriver(outermost) as driver:
            request = await kept_behind(driver, app, headers={"accept-encoding": "gzip"})
            app.release("ahead")
            response = await request.response()
        assert response.body.startswith(QUEUED + b"data: xxx")
        assert "content-encoding" not in response.headers


class TestOtherMiddlewares:
    """What stands around."""

    async def test_frameworks_middlewares_outside_see_a_stream(self) -> None:
        """`BaseHTTPMiddleware` passes comment lines on as they come; CORS outside is kept."""
        stage = StagedApp()

        async def chat(request: Request) -> Response:
            await stage.released(request.headers["x-name"])
            return StreamingResponse(iter(["data: 1\n\n"]), media_type="text/event-stream")

        async def look(request: Request, go_on: Callable[[Request], Any]) -> Response:
            response: Response = await go_on(request)
            response.headers["x-seen"] = "yes"
            return response

        app = Starlette(routes=[Route("/chat", chat, methods=["POST"])])
        app.add_middleware(LaneMiddleware, key="x-session-key", trusted_keys=True, keepalive=AT_ONCE)
        app.add_middleware(BaseHTTPMiddleware, dispatch=look)
        app.add_middleware(CORSMiddleware, allow_origins=["*"])
        async with AsgiDriver(app) as driver:
            ahead = ask_for_stream(driver, "ahead")
            await ahead.until_idle()
            request = ask_for_stream(driver, "it", headers={"origin": "http://page"})
            assert await request.body_chunk() == QUEUED
            stage.release("ahead", "it")
            response = await request.response()
            await request.finished()
            await ahead.finished()
        assert response.body == QUEUED + b"data: 1\n\n"
        assert (response.headers["x-seen"], response.headers["access-control-allow-origin"]) == ("yes", "*")

    async def test_one_lane_in_another(self) -> None:
        """The inner one's comment lines go on where the outer one's ended, in one response."""
        app = StagedApp()
        says(app, "it", start(200, EVENTS), LAST)
        inner = laned(app, key="x-inner", keepalive=AT_ONCE)
        outer = laned(inner, keepalive=AT_ONCE)
        async with watched(inner), serving(outer) as driver:
            post(driver, "a", "inner", headers={"x-inner": "1"})
            await app.entered("inner")
            post(driver, "k", "ahead")
            await app.entered("ahead")
            request = ask_for_stream(driver, headers={"x-inner": "1"})
            assert await request.body_chunk() == QUEUED
            app.release("ahead")
            assert await request.body_chunk() == QUEUED
            app.release("inner")
            response = await request.response()
            await request.finished()
        assert response.body == QUEUED * 2 + b"data: 1\n\n"

    async def test_a_handler_of_the_framework_answers_in_the_stream(self) -> None:
        """Its 404 and the like are responses as any other."""

        async def chat(_: Request) -> Response:
            return JSONResponse({"detail": "no such model"}, 404)

        inside = Starlette(routes=[Route("/chat", chat, methods=["POST"])])
        app = StagedApp()
        app.steps["it"] = inside
        async with kept(app) as driver:
            request = await kept_behind(driver, app)
            app.release("ahead")
            await request.finished()
        assert error_in(request.messages)["error"]["message"] == "no such model"


class TestLettingGo:
    """The other settings of the middleware, with comment lines before the answer."""

    async def test_at_the_end_of_the_response(self) -> None:
        """The next turn runs while the app still does something else."""
        app = StagedApp()

        async def step(_: Scope, __: Receive, send: Send) -> None:
            await send(start(200, EVENTS))
            await send(LAST)
            await app.released("it")

        app.steps["it"] = step
        async with kept(app, release_on="response_end") as driver:
            request = await kept_behind(driver, app)
            app.release("ahead", "next")
            assert (await request.response()).body == QUEUED + b"data: 1\n\n"
            assert (await post(driver, "k", "next").response()).status == 200
            app.release("it")
            await request.finished()

    async def test_a_turn_that_has_begun_may_finish_without_its_client(self) -> None:
        """One that waits may not: see the tests of clients that leave."""
        app = StagedApp()

        async def step(_: Scope, __: Receive, send: Send) -> None:
            await send(start(200, EVENTS))
            await app.released("it")
            await send(LAST)
            app.log.append("whole")

        app.steps["it"] = step
        async with kept(app, on_disconnect="finish", driver={"spec_version": "2.4"}) as driver:
            request = await kept_behind(driver, app)
            app.release("ahead")
            await app.entered("it")
            request.disconnect()
            app.release("it")
            await request.finished()
        assert "whole" in app.log

    async def test_an_error_event_ends_an_interrupted_stream(self) -> None:
        """With what its last event lacks before it, whatever stood in the stream before."""
        app = StagedApp()
        interrupted = errors.TurnInterrupted("k", turn="turn-1", into="turn-2", running=True)
        says(app, "it", start(200, EVENTS), chunk(b"id: 7\ndata: 1\n"), error=interrupted)
        async with kept(app) as driver:
            request = await kept_behind(driver, app)
            app.release("ahead")
            await request.finished()
        assert request.messages[-1]["body"].startswith(b"\nevent: error\n")

    async def test_a_client_that_left_meanwhile_is_no_second_failure(self) -> None:
        """The app failed, and nobody is there to be told: the server still is."""
        app = StagedApp()

        async def step(_: Scope, __: Receive, ___: Send) -> None:
            request.disconnect()
            raise KeyError("a bug")

        app.steps["it"] = step
        async with kept(app, driver={"spec_version": "2.4"}) as driver:
            request = await kept_behind(driver, app)
            app.release("ahead")
            with pytest.raises(KeyError):
                await request.finished()
