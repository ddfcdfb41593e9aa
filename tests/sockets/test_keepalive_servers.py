"""Keep-alive in each server: comment lines at once, a client that leaves, and what can not be the rest of a stream."""

import pytest

from support.net_http import connected, request
from support.server_loopback import serving_with
from support.server_staged import Stage, staged_app
from turnlane import KeepAlive, LaneMiddleware, Lanes
from turnlane.hooks import TurnRefused
from turnlane.testing import Gates, assert_no_leaks

pytestmark = pytest.mark.sockets

KEY = "agent:main:alice"
ASKING = b'{"stream": true}'


async def test_a_client_that_hangs_up_after_comment_lines_leaves_the_line(server: str) -> None:
    """At once, while the one before still runs; its turn never runs."""
    stage, lanes = Stage(), Lanes()
    gates = Gates(lanes.hooks)
    app = LaneMiddleware(
        staged_app(stage), key="x-session-key", lanes=lanes, trusted_keys=True, keepalive=KeepAlive(after=0, every=60)
    )
    stage.hold("a")
    async with serving_with(server, app) as port, connected(port) as first, connected(port) as leaver:
        await first.send(request("/answer", b"A", x_session_key=KEY, x_name="a"))
        await stage.reached("a")
        await leaver.send(request("/answer", ASKING, x_session_key=KEY, x_name="gone"))
        assert (await leaver.head())[0] == 200
        assert await leaver.chunk() == b": queued\n"
        leaver.leave()
        assert (await gates.at(TurnRefused).reached()).reason == "client_gone"
        stage.let_go("a")
        assert (await first.answer()).status == 200
    assert stage.passed == ["a"]
    assert_no_leaks(lanes)


async def test_an_answer_that_is_no_stream_ends_the_response_with_an_error_event(server: str) -> None:
    """The response is complete, whichever server frames it."""
    stage, lanes = Stage(), Lanes()
    app = LaneMiddleware(
        staged_app(stage), key="x-session-key", lanes=lanes, trusted_keys=True, keepalive=KeepAlive(after=0, every=60)
    )
    stage.hold("a")
    async with serving_with(server, app) as port, connected(port) as first, connected(port) as second:
        await first.send(request("/answer", b"A", x_session_key=KEY, x_name="a"))
        await stage.reached("a")
        await second.send(request("/answer", ASKING, x_session_key=KEY, x_name="b"))
        status, headers = await second.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert await second.chunk() == b": queued\n"
        stage.let_go("a")
        assert b'"code": "not_a_stream"' in await second.chunk()
        assert await second.chunk() == b""
        assert (await first.answer()).status == 200
    assert stage.passed == ["a", "b"]
    assert_no_leaks(lanes)
