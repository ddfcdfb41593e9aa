"""Clients that hang up, on real sockets: uvicorn with both of its parsers, and hypercorn, on both loops.

Nothing here is random, so there is no long form: `pytest tests/sockets` is all of it.
"""

import pytest

from support.net_http import connected, request
from support.server_loopback import serving_with
from support.server_staged import Stage, staged_app
from turnlane import LaneMiddleware, Lanes
from turnlane.hooks import TurnFinished, TurnQueued, TurnRefused
from turnlane.testing import Gates, assert_no_leaks

pytestmark = pytest.mark.sockets

KEY = "agent:main:alice"


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def lanes() -> Lanes:
    return Lanes("memory://")


def behind_lanes(stage: Stage, lanes: Lanes) -> LaneMiddleware:
    return LaneMiddleware(staged_app(stage), key="x-session-key", lanes=lanes, trusted_keys=True)


async def test_requests_of_one_key_run_one_after_the_other(server: str, stage: Stage, lanes: Lanes) -> None:
    """Three at once: in the order they arrived, each with its own body, position and turn; no lane is left."""
    gates = Gates(lanes.hooks)
    stage.hold("a", "b", "c")
    async with (
        serving_with(server, behind_lanes(stage, lanes)) as port,
        connected(port) as first,
        connected(port) as second,
        connected(port) as third,
    ):
        await first.send(request("/answer", b"A", x_session_key=KEY, x_name="a"))
        await stage.reached("a")
        await second.send(request("/answer", b"BB", x_session_key=KEY, x_name="b"))
        await gates.at(TurnQueued).reached()
        await third.send(request("/answer", b"CCC", x_session_key=KEY, x_name="c"))
        await gates.at(TurnQueued).reached(2)
        assert stage.passed == ["a"]
        stage.let_go("a")
        await stage.reached("b")
        assert stage.passed == ["a", "b"]
        stage.let_go("b", "c")
        answers = [await each.answer() for each in (first, second, third)]
    assert [(answer.json()["name"], answer.json()["length"]) for answer in answers] == [("a", 1), ("b", 2), ("c", 3)]
    assert [answer.headers["x-turnlane-position"] for answer in answers] == ["0", "1", "2"]
    assert [answer.headers["x-turnlane-turn"] for answer in answers] == [answer.json()["turn"] for answer in answers]
    assert stage.passed == ["a", "b", "c"]
    assert_no_leaks(lanes)


async def test_a_client_that_hangs_up_while_it_waits_never_runs(server: str, stage: Stage, lanes: Lanes) -> None:
    """It leaves the line at once, while the one before still runs; the one behind it runs next."""
    gates = Gates(lanes.hooks)
    stage.hold("a")
    async with (
        serving_with(server, behind_lanes(stage, lanes)) as port,
        connected(port) as first,
        connected(port) as leaver,
        connected(port) as third,
    ):
        await first.send(request("/answer", b"A", x_session_key=KEY, x_name="a"))
        await stage.reached("a")
        await leaver.send(request("/answer", b"B", x_session_key=KEY, x_name="gone"))
        await gates.at(TurnQueued).reached()
        await third.send(request("/answer", b"C", x_session_key=KEY, x_name="c"))
        await gates.at(TurnQueued).reached(2)
        leaver.leave()
        refused = await gates.at(TurnRefused).reached()
        assert refused.reason == "client_gone"
        assert (lanes.statistics().running, lanes.statistics().waiting) == (1, 1)
        stage.let_go("a")
        assert (await first.answer()).status == 200
        assert (await third.answer()).json()["name"] == "c"
    assert stage.passed == ["a", "c"]
    assert_no_leaks(lanes)


@pytest.mark.parametrize("length", [10, 300_000], ids=["short", "long"])
async def test_a_client_that_hangs_up_with_half_its_body_sent_never_runs(
    server: str, stage: Stage, lanes: Lanes, length: int
) -> None:
    """Also where the half is more than the server reads ahead by itself."""
    gates = Gates(lanes.hooks)
    stage.hold("a")
    async with (
        serving_with(server, behind_lanes(stage, lanes)) as port,
        connected(port) as first,
        connected(port) as leaver,
    ):
        await first.send(request("/answer", b"A", x_session_key=KEY, x_name="a"))
        await stage.reached("a")
        half = b"x" * (length // 2)
        await leaver.send(request("/answer", half, length=length, x_session_key=KEY, x_name="gone"))
        await gates.at(TurnQueued).reached()
        leaver.leave()
        assert (await gates.at(TurnRefused).reached()).reason == "client_gone"
        stage.let_go("a")
        assert (await first.answer()).status == 200
    assert stage.passed == ["a"]
    assert_no_leaks(lanes)


async def test_a_client_that_hangs_up_while_streaming_frees_the_lane(server: str, stage: Stage, lanes: Lanes) -> None:
    """The stream is closed first, then the next message runs."""
    gates = Gates(lanes.hooks)
    stage.hold("a")
    async with (
        serving_with(server, behind_lanes(stage, lanes)) as port,
        connected(port) as leaver,
        connected(port) as second,
    ):
        await leaver.send(request("/stream", b"A", x_session_key=KEY, x_name="a"))
        assert (await leaver.head())[0] == 200
        assert await leaver.chunk() == b"one"
        await stage.reached("a")
        await second.send(request("/answer", b"B", x_session_key=KEY, x_name="b"))
        await gates.at(TurnQueued).reached()
        leaver.leave()
        assert (await second.answer()).json()["name"] == "b"
    assert stage.passed == ["a", "a left", "b"]
    assert [event.outcome for event in gates.at(TurnFinished).seen] == ["completed", "completed"]
    assert_no_leaks(lanes)


async def test_a_client_that_hangs_up_before_its_body_came_frees_the_lane(
    server: str, stage: Stage, lanes: Lanes
) -> None:
    """It had the lane at once, by its header, and the app still reads: the next message runs when it has left."""
    gates = Gates(lanes.hooks)
    async with (
        serving_with(server, behind_lanes(stage, lanes)) as port,
        connected(port) as leaver,
        connected(port) as second,
    ):
        await leaver.send(request("/answer", b"half", length=8, x_session_key=KEY, x_name="gone"))
        while lanes.statistics().running == 0:
            await gates.next_event()
        await second.send(request("/answer", b"B", x_session_key=KEY, x_name="b"))
        await gates.at(TurnQueued).reached()
        leaver.leave()
        assert (await second.answer()).json()["name"] == "b"
    assert stage.passed == ["b"]
    assert_no_leaks(lanes)


@pytest.mark.parametrize("path", ["/stream", "/answer"])
async def test_a_turn_may_finish_although_its_client_hung_up(
    server: str, stage: Stage, lanes: Lanes, path: str
) -> None:
    """With `on_disconnect="finish"` it runs to its end, and holds its lane until then."""
    gates = Gates(lanes.hooks)
    stage.hold("a")
    app = LaneMiddleware(staged_app(stage), key="x-session-key", lanes=lanes, trusted_keys=True, on_disconnect="finish")
    async with serving_with(server, app) as port, connected(port) as leaver, connected(port) as second:
        await leaver.send(request(path, b"A", x_session_key=KEY, x_name="a"))
        await stage.reached("a")
        leaver.leave()
        await second.send(request("/answer", b"B", x_session_key=KEY, x_name="b"))
        await gates.at(TurnQueued).reached()
        # By now the server knows that the first client left: a third one that came later is told so.
        async with connected(port) as third:
            await third.send(request("/answer", b"C", x_session_key="other", x_name="c"))
            assert (await third.answer()).status == 200
        assert stage.passed == ["a", "c"]
        stage.let_go("a")
        assert (await second.answer()).json()["name"] == "b"
    assert stage.passed == ["a", "c", *(["a left"] if path == "/stream" else []), "b"]
    assert gates.at(TurnFinished).seen[1].outcome == "completed"
    assert_no_leaks(lanes)
