"""Bodies on real sockets: announced, chunked, too large, and slow."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.net_http import Connection, connected, request
from support.server_loopback import serving_with
from support.server_staged import Stage, staged_app
from turnlane import LaneMiddleware, Lanes, keys
from turnlane.hooks import TurnQueued
from turnlane.testing import Gates, assert_no_leaks

pytestmark = pytest.mark.sockets

KEY = "agent:main:alice"
LIMIT = 64 * 1024


def message(text: str, key: str = KEY) -> bytes:
    return json.dumps({"session": key, "text": text}).encode()


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Served:
    """A running server with one middleware, and what a test needs around it."""

    def __init__(self, port: int, stage: Stage, lanes: Lanes) -> None:
        self.port = port
        self.stage = stage
        self.lanes = lanes
        self.gates = Gates(lanes.hooks)

    @asynccontextmanager
    async def busy(self) -> AsyncGenerator[None, None]:
        """Let a turn of the key run inside the block."""
        self.stage.hold("holder")
        async with connected(self.port) as holder:
            await holder.send(request("/answer", message("hold"), x_session_key=KEY, x_name="holder"))
            await self.stage.reached("holder")
            yield
            self.stage.let_go("holder")
            assert (await holder.answer()).status == 200

    async def queued(self) -> None:
        await self.gates.at(TurnQueued).reached()


@asynccontextmanager
async def serving(server: str, **settings: Any) -> AsyncGenerator[Served, None]:
    stage, lanes = Stage(), Lanes("memory://")
    settings.setdefault("key", "x-session-key")
    app = LaneMiddleware(staged_app(stage), lanes=lanes, trusted_keys=True, body_limit=LIMIT, **settings)
    async with serving_with(server, app) as port:
        yield Served(port, stage, lanes)
    assert_no_leaks(lanes)


async def continued(connection: Connection, path: str, body: bytes, name: str) -> None:
    """Send a request that asks before it sends its body."""
    head = request(path, None, length=len(body), x_session_key=KEY, x_name=name, expect="100-continue")
    await connection.send(head)


async def test_a_waiting_request_that_asks_before_its_body_is_told_to_go_on(server: str) -> None:
    """100 comes while it waits, and the body it sends then is what its app reads later."""
    body = message("after the 100")
    async with serving(server) as served, connected(served.port) as client:
        async with served.busy():
            await continued(client, "/answer", body, "b")
            assert (await client.head())[0] == 100
            await client.send(body)
            await served.queued()
            assert served.stage.passed == ["holder"]
        answer = await client.answer()
    assert (answer.status, answer.json()["digest"]) == (200, digest(body))


@pytest.mark.parametrize("busy", [True, False], ids=["waiting", "at once"])
async def test_a_request_that_asks_before_a_body_with_the_key_is_told_to_go_on(server: str, busy: bool) -> None:
    """The key is in the body, so the body is asked for before there is a lane to wait for."""
    body = message("the key is in here")
    async with serving(server, key=keys.json_body("session")) as served, connected(served.port) as client:
        if busy:
            async with served.busy():
                await continued(client, "/answer", body, "b")
                assert (await client.head())[0] == 100
                await client.send(body)
                await served.queued()
        else:
            await continued(client, "/answer", body, "b")
            assert (await client.head())[0] == 100
            await client.send(body)
        answer = await client.answer()
    assert (answer.status, answer.json()["digest"], answer.json()["key"]) == (200, digest(body), KEY)


@pytest.mark.parametrize("key", ["x-session-key", keys.json_body("session")], ids=["header", "body"])
async def test_a_chunked_body_is_replayed(server: str, key: Any) -> None:
    """Byte for byte, for a request that waits and for one that does not."""
    bodies = [message(letter * 60_000) for letter in "bc"]
    async with serving(server, key=key) as served, connected(served.port) as waits, connected(served.port) as runs:
        async with served.busy():
            await waits.send(request("/answer", None, x_session_key=KEY, x_name="b", transfer_encoding="chunked"))
            await waits.send(chunked(bodies[0], 997))
            await served.queued()
        answers = [await waits.answer()]
        await runs.send(request("/answer", None, x_session_key=KEY, x_name="c", transfer_encoding="chunked"))
        await runs.send(chunked(bodies[1], 997))
        answers.append(await runs.answer())
    assert [answer.json()["digest"] for answer in answers] == [digest(body) for body in bodies]
    assert [answer.headers["x-turnlane-position"] for answer in answers] == ["1", "0"]


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
@pytest.mark.parametrize("busy", [True, False], ids=["waiting", "at once"])
async def test_a_body_over_the_limit_passes_with_its_key_in_a_header(server: str, declared: bool, busy: bool) -> None:
    """It is read no further while it waits, and then by the app: nothing is lost at the seam."""
    body = message("x" * LIMIT * 3)
    head = (
        request("/answer", None, length=len(body), x_session_key=KEY, x_name="b")
        if declared
        else request("/answer", None, x_session_key=KEY, x_name="b", transfer_encoding="chunked")
    )
    sent = head + (body if declared else chunked(body, 5000))
    async with serving(server) as served, connected(served.port) as client, asyncio.TaskGroup() as tasks:
        # The server stops reading while the request waits: sending may last as long as the wait.
        if busy:
            async with served.busy():
                tasks.create_task(client.send(sent))
                await served.queued()
        else:
            tasks.create_task(client.send(sent))
        answer = await client.answer()
    assert (answer.status, answer.json()["digest"]) == (200, digest(body))


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
async def test_a_body_over_the_limit_with_its_key_inside_is_refused(server: str, declared: bool) -> None:
    """413 with a code and no retry; it had no lane to leave."""
    body = message("x" * LIMIT * 2)
    async with serving(server, key=keys.json_body("session")) as served, connected(served.port) as client:
        if declared:
            # Refused by what it says of itself: the body is never sent.
            await client.send(request("/answer", None, length=len(body), x_name="b"))
        else:
            await client.send(request("/answer", None, x_name="b", transfer_encoding="chunked"))
            await client.send(chunked(body, 5000))
        answer = await client.answer()
        assert served.stage.passed == []
    assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("server", ["uvicorn-httptools", "hypercorn"])
@pytest.mark.parametrize("key", ["x-session-key", keys.json_body("session")], ids=["header", "body"])
async def test_a_slow_body_holds_nobody_else(server: str, key: Any) -> None:
    """While one client sends a byte every 5 ms, others are answered: always those of other keys, and those of its
    own key too as long as the key is among the bytes that have not come.
    """
    body = message("slow".ljust(200 - len(message("")), "."))
    in_body = key != "x-session-key"
    async with serving(server, key=key) as served, connected(served.port) as slow, connected(served.port) as other:
        await slow.send(request("/answer", None, length=len(body), x_session_key=KEY, x_name="slow"))
        for number in range(len(body) - 1):
            await slow.send(body[number : number + 1])
            if number % 10 == 5:
                session = KEY if in_body and number % 20 == 5 else f"agent:main:{number}"
                sent = message("quick", session)
                await other.send(request("/answer", sent, x_session_key=session, x_name="quick"))
                answer = await other.answer()
                assert (answer.status, answer.headers["x-turnlane-position"]) == (200, "0")
            await asyncio.sleep(0.005)
        # With its key in a header it has had its lane all the time, with the key in the body it has none yet.
        running = [lane.key for lane in served.lanes.snapshot()]
        await slow.send(body[-1:])
        assert (await slow.answer()).json()["digest"] == digest(body)
    assert running == ([] if in_body else [KEY])
    assert served.stage.passed == ["quick"] * 20 + ["slow"]
