"""Clients that hang up in the very moment they are handed their lane, on real sockets, servers and loops.

Nothing here is random, so there is no long form: `pytest tests/sockets` is all of it.
"""

import asyncio
import socket
import struct

import pytest

from support.net_http import connected, request
from support.server_loopback import serving_with
from support.server_staged import Stage, staged_app
from turnlane import LaneMiddleware, Lanes
from turnlane.hooks import Event, TurnFinished, TurnQueued, TurnStarted
from turnlane.testing import Gates, assert_no_leaks

pytestmark = pytest.mark.sockets

KEY = "agent:main:alice"
RESET = struct.pack("ii", 1, 0)  # what is not read yet is thrown away, and so is the connection


class Leaver:
    """A client that hangs up inside a step of the server's loop: the socket is closed when `leave` returns."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setblocking(False)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    def leave(self, how: str) -> None:
        if how == "reset":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._socket.close()


@pytest.mark.parametrize("moment", [TurnFinished, TurnStarted], ids=["just before", "in the middle"])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_hangs_up_at_the_hand_over_never_runs(server: str, moment: type[Event], how: str) -> None:
    """The turn before it has ended, its own has begun for the record: its app is not called, the next one runs."""
    stage, lanes = Stage(), Lanes("memory://")
    gates = Gates(lanes.hooks)
    stage.hold("a")
    left: list[str] = []
    app = LaneMiddleware(staged_app(stage), key="x-session-key", lanes=lanes, trusted_keys=True)
    async with serving_with(server, app) as port, connected(port) as first, connected(port) as third:
        leaver = Leaver(port)

        def leave(event: Event) -> None:
            if not left and not (isinstance(event, TurnStarted) and event.waited == 0):
                left.append("left")
                leaver.leave(how)

        await first.send(request("/answer", b"A", x_session_key=KEY, x_name="a"))
        await stage.reached("a")
        await leaver.send(request("/answer", b"B", x_session_key=KEY, x_name="gone"))
        await gates.at(TurnQueued).reached()
        await third.send(request("/answer", b"C", x_session_key=KEY, x_name="c"))
        await gates.at(TurnQueued).reached(2)
        lanes.hooks.on(moment, leave)
        stage.let_go("a")
        assert (await first.answer()).status == 200
        assert (await third.answer()).json()["name"] == "c"
    assert left == ["left"]
    assert stage.passed == ["a", "c"]
    assert_no_leaks(lanes)
