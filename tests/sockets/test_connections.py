"""Several requests on one connection: keep-alive, pipelining, and the context that leaks from one to the next.

A server may start the task of a later request in the context of an earlier one whose turn still runs: uvicorn does
when reading was paused for a large body and the app's own `receive` resumed it. Such a request has to wait like any
other; taken for a part of that turn it would be refused as re-entry, or see a turn that is not its own.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.net_http import connected, request
from support.server_loopback import serving_with
from support.server_staged import Stage, staged_app
from turnlane import LaneMiddleware, Lanes, current_turn
from turnlane.hooks import TurnFinished, TurnQueued
from turnlane.testing import Gates, assert_no_leaks

pytestmark = pytest.mark.sockets

KEY, OTHER = "agent:main:alice", "agent:main:bob"
LARGE = b"x" * 200 * 1024


class NotedContexts:
    """Stands before the middleware and notes whether a request's context already has a turn when it arrives."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.leaked: list[bool] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.leaked.append(current_turn() is not None)
        await self.app(scope, receive, send)


class Served:
    def __init__(self, port: int, stage: Stage, lanes: Lanes, noted: NotedContexts) -> None:
        self.port = port
        self.stage = stage
        self.lanes = lanes
        self.gates = Gates(lanes.hooks)
        self.noted = noted


@asynccontextmanager
async def serving(server: str) -> AsyncGenerator[Served, None]:
    stage, lanes = Stage(), Lanes("memory://")
    app = NotedContexts(LaneMiddleware(staged_app(stage), key="x-session-key", lanes=lanes, trusted_keys=True))
    async with serving_with(server, app) as port:
        yield Served(port, stage, lanes, app)
    assert_no_leaks(lanes)


@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "large"])
async def test_the_next_request_waits_for_the_background_task_of_the_one_before(server: str, body: bytes) -> None:
    """Same connection, same key: it stands in line, then runs in a turn of its own, whatever context it came with."""
    async with serving(server) as served, connected(served.port) as client:
        served.stage.hold("a")
        await client.send(request("/background", body, x_session_key=KEY, x_name="a"))
        first = await client.answer()
        assert (first.status, first.json()["length"]) == (200, len(body))
        await served.stage.reached("a")
        await client.send(request("/answer", body, x_session_key=KEY, x_name="b"))
        await served.gates.at(TurnQueued).reached()
        assert served.stage.passed == ["a"]
        served.stage.let_go("a")
        second = await client.answer()
    assert (second.status, second.json()["length"], second.json()["same"]) == (200, len(body), True)
    assert second.headers["x-turnlane-turn"] == second.json()["turn"] != first.json()["turn"]
    assert second.headers["x-turnlane-position"] == "1"
    assert served.stage.passed == ["a", "b"]


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("server", ["uvicorn-h11", "uvicorn-httptools"])
async def test_the_context_of_a_turn_does_leak_into_the_next_request(server: str) -> None:
    """The tests around this one would show nothing if servers had stopped doing it."""
    async with serving(server) as served, connected(served.port) as client:
        served.stage.hold("a")
        await client.send(request("/background", LARGE, x_session_key=KEY, x_name="a"))
        await client.answer()
        await served.stage.reached("a")
        await client.send(request("/answer", b"", x_session_key=OTHER, x_name="b"))
        answer = await client.answer()
        served.stage.let_go("a")
    assert served.noted.leaked == [False, True]
    assert (answer.json()["key"], answer.json()["same"]) == (OTHER, True)


async def test_a_request_of_another_key_on_that_connection_runs_at_once(server: str) -> None:
    """Beside the background task, in its own turn; a third one without a key sees no turn."""
    async with serving(server) as served, connected(served.port) as client:
        served.stage.hold("a")
        await client.send(request("/background", LARGE, x_session_key=KEY, x_name="a"))
        first = await client.answer()
        await served.stage.reached("a")
        await client.send(request("/answer", LARGE, x_session_key=OTHER, x_name="b"))
        second = await client.answer()
        await client.send(request("/answer", b"", x_name="c"))
        third = await client.answer()
        await client.send(request("/answer", None, method="GET", x_session_key=KEY, x_name="d"))
        fourth = await client.answer()
        running = [lane.key for lane in served.lanes.snapshot()]
        served.stage.let_go("a")
    assert running == [KEY]
    assert (second.json()["key"], second.json()["same"]) == (OTHER, True)
    assert second.json()["turn"] != first.json()["turn"]
    assert (third.status, third.json()["turn"]) == (200, None)
    assert (fourth.status, fourth.json()["turn"]) == (200, None)
    assert served.stage.passed == ["a", "b", "c", "d"]


async def test_requests_of_several_people_through_one_connection_of_a_proxy(server: str) -> None:
    """A proxy sends requests of different clients on one connection: uvicorn then names the client of each.

    Neither is a part of the other's turn: the same key waits, no key sees no turn.
    """
    async with serving(server) as served, connected(served.port) as proxy:
        served.stage.hold("a")
        await proxy.send(request("/background", LARGE, x_session_key=KEY, x_name="a", x_forwarded_for="192.0.2.1"))
        assert (await proxy.answer()).status == 200
        await served.stage.reached("a")
        await proxy.send(request("/answer", b"", x_name="b", x_forwarded_for="192.0.2.2"))
        stranger = await proxy.answer()
        await proxy.send(request("/answer", b"", x_session_key=KEY, x_name="c", x_forwarded_for="192.0.2.3"))
        waits = asyncio.create_task(served.gates.at(TurnQueued).reached())
        answers = asyncio.create_task(proxy.answer())
        await asyncio.wait([waits, answers], return_when=asyncio.FIRST_COMPLETED)
        served.stage.let_go("a")
        waited = await answers
        waits.cancel()
    assert (stranger.status, stranger.json()["turn"]) == (200, None)
    assert (waited.status, waited.json().get("name")) == (200, "c")
    assert waited.headers["x-turnlane-position"] == "1"


async def test_many_requests_on_one_connection_each_have_their_turn(server: str) -> None:
    """Ten in a row with large bodies and background tasks: one after the other, in order, nothing refused."""
    async with serving(server) as served, connected(served.port) as client:
        for number in range(10):
            await client.send(request("/background", LARGE, x_session_key=KEY, x_name=str(number)))
            answer = await client.answer()
            assert (answer.status, answer.json()["length"]) == (200, len(LARGE))
        await served.gates.at(TurnFinished).reached(10)
    assert served.stage.passed == [str(number) for number in range(10)]
    outcomes = [event.outcome for event in served.gates.at(TurnFinished).seen]
    assert outcomes == ["completed"] * 10


async def test_pipelined_requests_are_answered_in_order(server: str) -> None:
    """Three of one key and one of another in one write: each gets its own answer, in the order they were sent."""
    async with serving(server) as served, connected(served.port) as client:
        sent = [("a", KEY), ("b", KEY), ("c", OTHER), ("d", KEY)]
        await client.send(
            b"".join(request("/answer", name.encode(), x_session_key=key, x_name=name) for name, key in sent)
        )
        answers = [(await client.answer()).json() for _ in sent]
    assert [(answer["name"], answer["key"]) for answer in answers] == sent
    assert len({answer["turn"] for answer in answers}) == 4
    assert served.stage.passed == ["a", "b", "c", "d"]


async def test_a_pipelined_request_waits_for_the_background_task_before_it(server: str) -> None:
    """Both were sent before the first ran; the second stands in line until the first has ended altogether."""
    async with serving(server) as served, connected(served.port) as client:
        served.stage.hold("a")
        first = request("/background", LARGE, x_session_key=KEY, x_name="a")
        await client.send(first + request("/answer", LARGE, x_session_key=KEY, x_name="b"))
        assert (await client.answer()).status == 200
        await served.gates.at(TurnQueued).reached()
        assert served.stage.passed == ["a"]
        served.stage.let_go("a")
        assert (await client.answer()).json()["name"] == "b"
    assert served.stage.passed == ["a", "b"]


async def test_a_client_that_leaves_with_requests_in_the_pipe_leaves_no_lane(server: str) -> None:
    """The one that ran ends, the one that waited never runs."""
    async with serving(server) as served, connected(served.port) as client:
        served.stage.hold("a")
        await client.send(request("/background", LARGE, x_session_key=KEY, x_name="a"))
        await client.answer()
        await served.stage.reached("a")
        await client.send(request("/answer", b"", x_session_key=KEY, x_name="gone"))
        await served.gates.at(TurnQueued).reached()
        client.leave()
        while served.lanes.statistics().waiting:
            await served.gates.next_event()
        served.stage.let_go("a")
        await served.gates.at(TurnFinished).reached()
    assert served.stage.passed == ["a"]
