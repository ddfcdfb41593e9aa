"""The same apps behind a real uvicorn and a real hypercorn: framework, middleware and server together."""

from collections.abc import Callable
from typing import Any

import pytest

from support.net_http import connected, request
from support.server_django import django
from support.server_litestar import litestar, litestar_wrapped
from support.server_loopback import serving_with
from support.server_quart import quart
from support.server_staged import Stage
from support.server_starlette import fastapi, starlette, starlette_decorated
from turnlane import Runtime
from turnlane.hooks import TurnQueued, TurnRefused
from turnlane.testing import Gates, assert_no_leaks

pytestmark = pytest.mark.sockets

KEY = "agent:main:alice"
BODY = b'{"text": "hello"}'
BUILDERS = (starlette, starlette_decorated, fastapi, litestar, litestar_wrapped, quart, django)


def post(path: str, name: str) -> bytes:
    return request(path, BODY, x_session_key=KEY, x_name=name, content_type="application/json")


@pytest.mark.parametrize("server", ["uvicorn-httptools", "hypercorn"])
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
async def test_a_conversation_on_real_sockets(build: Callable[..., Any], server: str) -> None:
    """A stream is left in the middle, a waiting message is given up, the one behind both gets its whole reply."""
    stage, runtime = Stage(), Runtime(sessions="memory://")
    gates = Gates(runtime.hooks)
    app = build(stage, {"key": "x-session-key", "runtime": runtime, "trusted_keys": True})
    stage.hold("a")
    async with (
        serving_with(server, app) as port,
        connected(port) as streams,
        connected(port) as leaver,
        connected(port) as stays,
    ):
        await streams.send(post("/stream", "a"))
        status, headers = await streams.head()
        assert (status, headers["x-turnlane-position"]) == (200, "0")
        assert await streams.chunk() == b"one"
        await stage.reached("a")
        await leaver.send(post("/answer", "gone"))
        await gates.at(TurnQueued).reached()
        await stays.send(post("/answer", "b"))
        await gates.at(TurnQueued).reached(2)
        leaver.leave()
        assert (await gates.at(TurnRefused).reached()).reason == "client_gone"
        streams.leave()
        answer = await stays.answer()
    assert (answer.status, answer.json()["length"], answer.json()["in_state"]) == (200, len(BODY), True)
    assert answer.headers["x-turnlane-turn"] == answer.json()["turn"]
    assert answer.headers["x-session-id"] == headers["x-session-id"] == answer.json()["session"]
    assert stage.passed == ["a", "a left", "b"]
    assert_no_leaks(runtime.lanes)
    await runtime.aclose()
