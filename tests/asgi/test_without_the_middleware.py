"""`refuse`: the table of refusals for servers that run turns without `LaneMiddleware`."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from turnlane import LaneMiddleware, Runtime, errors, keys
from turnlane.asgi import refuse
from turnlane.testing import AsgiDriver


def serving(runtime: Runtime) -> Starlette:
    @runtime.agent_turn(key="key", policy="reject")
    async def reply(key: str) -> str:
        return key

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(await reply(request.query_params.get("key", "")))

    handlers = {errors.TurnlaneError: refuse}
    return Starlette(routes=[Route("/", endpoint)], exception_handlers=handlers)


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [("/?key=a", 409, "lane_busy"), ("/", 400, "session_key_required"), ("/?key=%00", 422, "session_key_invalid")],
)
async def test_a_refusal_is_answered_from_the_table(target: str, status: int, code: str) -> None:
    """As the middleware would."""
    runtime = Runtime()
    async with AsgiDriver(serving(runtime)) as driver, runtime.turn("a"):
        response = await driver.start("GET", target).response()
    assert (response.status, response.json()["error"]["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in response.headers) == (code == "lane_busy")


async def test_what_has_no_response_is_raised() -> None:
    """Something is wrong with the server, not with the request."""
    with pytest.raises(errors.NotConfigured):
        await refuse(None, errors.NotConfigured("there are no sessions"))


def test_an_unscoped_session_id_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever knows an id has its session, however the keys are scoped."""
    runtime = Runtime(sessions="memory://")
    scoped = keys.scoped_by(lambda connection: "me", "x-key")
    LaneMiddleware(Starlette(), key=scoped, session_id="x-session", runtime=runtime)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["unscoped_session_id"]
    caplog.clear()
    LaneMiddleware(Starlette(), key=scoped, session_id="x-session", runtime=runtime, trusted_keys=True)
    assert caplog.records == []


def test_a_scoped_session_id_is_refused() -> None:
    """It would name another session than the one the client means."""
    scoped = keys.scoped_by(lambda connection: "me", "x-session")
    with pytest.raises(ValueError, match="session_id"):
        LaneMiddleware(Starlette(), key="x-key", session_id=scoped, runtime=Runtime(sessions="memory://"))
