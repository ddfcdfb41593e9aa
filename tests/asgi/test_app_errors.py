"""Errors that leave the app: ours become responses, all others are the server's; the lane is free in every case."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from support.asgi_staged import KEY, StagedApp, answer_with, laned, post, serving, start, watched
from support.asgi_wire import Wire, scope_of
from turnlane import LaneMiddleware, Lanes, Runtime, Turn, current_turn, errors
from turnlane.hooks import TurnFinished
from turnlane.testing import AsgiDriver, Gates, no_leaks

FOREIGN: list[BaseException] = [
    ValueError("a bug"),
    KeyError("another"),
    RuntimeError("a third"),
    TimeoutError("the model's"),
    ConnectionError("the model's"),
    ExceptionGroup("several", [ValueError("one"), errors.LaneBusy("k", ahead=1)]),
    errors.NotConfigured("something is missing"),
]


def failing(error: BaseException, *messages: Message) -> Any:
    """Return an app that sends these messages and fails."""

    async def app(_: Scope, __: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        raise error.with_traceback(None)

    return app


@pytest.mark.parametrize("redirect_status", [409, 202])
async def test_a_message_that_a_call_of_the_app_gave_to_another_turn(way: str, redirect_status: Any) -> None:
    """`redirect_status=` counts, whoever started the turn that was none: the middleware, or the app by `agent_turn`."""
    app = StagedApp()
    app.steps["it"] = failing(errors.TurnCoalesced("k", turn="turn-1", into="turn-2"))
    async with serving(laned(app, way=way, redirect_status=redirect_status)) as driver:
        response = await post(driver, "alice", "it").response()
    assert (response.status, response.json()["status"]) == (redirect_status, redirect_status)
    assert response.json()["into"] == "turn-2"


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
async def test_a_foreign_error_is_passed_on_as_it_is(way: str, error: Exception) -> None:
    """The very object, nothing sent in its place, the lane free, the record says failed."""
    for begun in (False, True):
        await fail(way, error, begun=begun)


async def fail(way: str, error: Exception, *, begun: bool) -> None:
    """Let an app fail, before or after its response began."""
    app = StagedApp()
    app.steps["it"] = failing(error, *([start()] if begun else []))
    middleware = laned(app, way=way)
    async with serving(middleware) as driver:
        with Gates(middleware.runtime.hooks) as gates:
            request = post(driver, "alice", "it")
            with pytest.raises(type(error)) as caught:
                await request.finished()
            app.release("next")
            assert (await post(driver, "alice", "next").response()).status == 200
        finished = gates.at(TurnFinished).seen
    assert caught.value is error
    assert len(request.messages) == begun
    assert [(event.outcome, event.error) for event in finished[:1]] == [("failed", error)]


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()], ids=lambda error: type(error).__name__)
async def test_the_end_of_the_process_is_not_held_up(way: str, error: BaseException) -> None:
    """What is no `Exception` goes on, too; the lane is let go on its way."""
    app = StagedApp()
    app.steps["it"] = failing(error)
    middleware = laned(app, way=way)
    async with watched(middleware):
        with pytest.raises(type(error)):
            await middleware(scope_of("alice"), Wire().receive, Wire().send)


async def test_a_cancellation_of_the_apps_own_making_is_passed_on(way: str) -> None:
    """An app that raises `CancelledError` without being cancelled looks to the server as it would without us."""
    app = StagedApp()
    app.steps["it"] = failing(asyncio.CancelledError())
    middleware = laned(app, way=way)
    wire = Wire()
    async with watched(middleware):
        with pytest.raises(asyncio.CancelledError):
            await wire.call(middleware, scope_of("alice"))
    assert wire.sent == []


async def test_a_lane_the_app_asks_for_itself_may_refuse_it(way: str) -> None:
    """The error of another lane is answered by the same table, in the same words."""
    inner = Lanes(policy="reject")
    app = StagedApp()

    async def asking(_: Scope, __: Receive, send: Send) -> None:
        async with inner.turn("tool"):
            await app.released("first")
            await answer_with(send)

    app.steps.update(first=asking, second=asking)
    async with serving(laned(app, way=way)) as driver, no_leaks(inner):
        first = post(driver, "alice", "first")
        await app.entered("first")
        response = await post(driver, "bob", "second").response()
        app.release("first")
        assert (await first.response()).status == 200
    assert (response.status, response.json()["error"]["code"]) == (409, "lane_busy")


async def test_an_endpoint_that_asks_for_its_own_lane_again_is_told() -> None:
    """`lanes.turn()` inside the middleware's turn is `LaneReentry`, not a wait without an end."""
    lanes = Lanes()
    app = StagedApp()

    async def asking(_: Scope, __: Receive, ___: Send) -> None:
        async with lanes.turn("alice"):
            raise AssertionError("it was admitted twice")

    app.steps["it"] = asking
    async with serving(laned(app, lanes=lanes)) as driver:
        response = await post(driver, "alice", "it").response()
    assert (response.status, response.json()["error"]["code"]) == (409, "lane_reentry")


async def test_a_decorated_function_joins_the_turn_of_its_request() -> None:
    """An endpoint behind the middleware may call `agent_turn` of the same runtime and key."""
    runtime = Runtime(sessions="memory://")
    joined: list[Turn | None] = []

    @runtime.agent_turn(key="session_key")
    async def answer(session_key: str, *, turn: Turn) -> str:
        joined.extend([turn, current_turn()])
        return session_key

    app = StagedApp()

    async def endpoint(_: Scope, __: Receive, send: Send) -> None:
        await answer_with(send, (await answer("alice")).encode())

    app.steps["it"] = endpoint
    async with runtime, serving(laned(app, runtime=runtime)) as driver:
        assert (await post(driver, "alice", "it").response()).text == "alice"
    assert joined == [app.turns["it"]] * 2


class TestFrameworks:
    """Where the frameworks' own handlers stand between the endpoint and the middleware."""

    async def test_starlette_answers_its_own_errors(self) -> None:
        """A 500 of Starlette's own, its exception passed on to the server after it, the lane free."""

        async def endpoint(_: Any) -> PlainTextResponse:
            raise ValueError("a bug")

        app = Starlette(routes=[Route("/chat", endpoint, methods=["POST"])])
        app.add_middleware(LaneMiddleware, key=KEY, trusted_keys=True)
        async with AsgiDriver(app) as driver:
            for name in ("1", "2"):
                request = post(driver, "alice", name)
                assert (await request.response()).status == 500
                with pytest.raises(ValueError, match="a bug"):
                    await request.finished()

    async def test_the_error_of_a_lane_goes_through_the_frameworks_handlers(self) -> None:
        """It reaches the middleware from a FastAPI endpoint, and an HTTPException is FastAPI's to answer."""
        app = FastAPI()

        @app.post("/chat")
        async def chat(code: int = 0) -> str:  # pyright: ignore[reportUnusedFunction]
            if code:
                raise HTTPException(code)
            raise errors.TurnInterrupted("k", turn="turn-1", into="turn-2", running=True)

        app.add_middleware(LaneMiddleware, key=KEY, trusted_keys=True)
        async with AsgiDriver(app) as driver:
            response = await post(driver, "alice", "it").response()
            assert (response.status, response.json()["into"]) == (409, "turn-2")
            response = await post(driver, "alice", "it", target="/chat?code=418").response()
            assert response.status == 418
            assert "x-turnlane-turn" in response.headers
