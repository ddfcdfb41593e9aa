"""A request that comes to a second lane middleware in another task than the first."""

import pytest
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from turnlane import LaneMiddleware, Lanes, Runtime, current_turn
from turnlane.testing import AsgiDriver, assert_no_leaks

KEYS = {"x-key": "a", "x-user": "u"}


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    turn = current_turn()
    await JSONResponse({"current": None if turn is None else turn.key})(scope, receive, send)


async def dispatch(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


def between(app: ASGIApp) -> ASGIApp:
    return BaseHTTPMiddleware(app, dispatch)


async def answer(app: ASGIApp, method: str = "POST") -> tuple[int, object]:
    async with AsgiDriver(app) as driver:
        response = await driver.start(method, "/", headers=KEYS).response()
    return response.status, response.json()


async def test_the_same_lane_again_is_refused_at_once() -> None:
    """It would wait for itself."""
    lanes = Lanes()
    inner = LaneMiddleware(tell, key="x-key", lanes=lanes, trusted_keys=True)
    outer = LaneMiddleware(between(inner), key="x-key", lanes=lanes, trusted_keys=True)
    status, document = await answer(outer)
    assert (status, isinstance(document, dict) and document["error"]["code"]) == (409, "lane_reentry")
    assert_no_leaks(lanes)


async def test_another_lane_uses_the_slot_of_the_first() -> None:
    """A lane of the user around one of the conversation, with one running slot for both."""
    lanes = Lanes(max_running=1)
    inner = LaneMiddleware(tell, key="x-key", lanes=lanes, trusted_keys=True)
    outer = LaneMiddleware(between(inner), key="x-user", lanes=lanes, trusted_keys=True)
    assert await answer(outer) == (200, {"current": "a"})
    assert_no_leaks(lanes)


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_request_that_passes_the_second_keeps_its_turn(method: str) -> None:
    """It has no key for the second, or a method that has no lanes there."""
    inner = LaneMiddleware(tell, key="x-other", lanes=Lanes(), trusted_keys=True)
    outer = LaneMiddleware(between(inner), key="x-key", lanes=Lanes(), methods=("GET", "POST"), trusted_keys=True)
    assert await answer(outer, method) == (200, {"current": "a"})


async def test_a_turn_function_inside_joins() -> None:
    """Behind a second middleware with lanes of its own, and a task between."""
    runtime = Runtime()

    @runtime.agent_turn(key="key")
    async def reply(key: str) -> str:
        turn = current_turn()
        return "" if turn is None else turn.key

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({"reply": await reply("a")})(scope, receive, send)

    inner = LaneMiddleware(app, key="x-other", lanes=Lanes(), trusted_keys=True)
    outer = LaneMiddleware(between(inner), key="x-key", runtime=runtime, trusted_keys=True)
    assert await answer(outer) == (200, {"reply": "a"})
