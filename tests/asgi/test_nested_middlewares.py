"""Two middlewares, one around the other."""

import pytest

from support.asgi_staged import KEY, StagedApp, in_line, laned, passes, post, serving, watched
from turnlane import LaneMiddleware, Lanes
from turnlane.testing import HttpRequest


async def test_with_lanes_of_their_own_both_hold() -> None:
    """The inner turn is the current one; both lanes are free afterwards."""
    app = StagedApp()
    inner = laned(app, key="x-inner")
    outer = LaneMiddleware(inner, key=KEY, trusted_keys=True)
    async with serving(outer) as driver, watched(inner):
        requests = [
            post(driver, "alice", "1", headers={"x-inner": "room"}),
            post(driver, "bob", "2", headers={"x-inner": "room"}),
            post(driver, "alice", "3", headers={"x-inner": "hall"}),
        ]
        await app.entered("1")
        await requests[2].until_idle()
        assert app.log == ["+1"]
        app.release("1", "2", "3")
        for request in requests:
            assert (await request.response()).status == 200
    keys = {name: turn.key for name, turn in app.turns.items() if turn is not None}
    assert keys == {"1": "room", "2": "room", "3": "hall"}


async def test_with_the_same_lanes_and_another_key_both_hold() -> None:
    """One place for all lanes."""
    app = StagedApp()
    lanes = Lanes()
    outer = laned(laned(app, key="x-inner", lanes=lanes), lanes=lanes)
    async with serving(outer) as driver:
        request = post(driver, "alice", "it", headers={"x-inner": "room"})
        await app.entered("it")
        assert {lane.key for lane in lanes.snapshot()} == {"alice", "room"}
        app.release("it")
        assert (await request.response()).status == 200


async def test_with_the_same_lanes_and_key_is_refused() -> None:
    """The mistake shows at the first request, as 409, and blocks nobody."""
    app = StagedApp()
    lanes = Lanes()
    outer = laned(laned(app, lanes=lanes), lanes=lanes)
    async with serving(outer) as driver:
        response = await post(driver, "alice", "it").response()
    assert (response.status, response.json()["error"]["code"]) == (409, "lane_reentry")
    assert app.log == []


@pytest.mark.parametrize("who", ["inner waits", "outer waits"])
async def test_a_client_that_leaves_leaves_both(who: str) -> None:
    """Whichever of the two lanes it waits for."""
    app = StagedApp()
    inner = laned(app, key="x-inner")
    outer = laned(inner)
    async with serving(outer) as driver, watched(inner):
        post(driver, "alice", "holder", headers={"x-inner": "room"})
        await app.entered("holder")
        key, room = ("alice", "hall") if who == "outer waits" else ("bob", "room")
        request = post(driver, key, "it", headers={"x-inner": room}, body=b"text")
        await in_line(outer if who == "outer waits" else inner, 1)
        await request.until_idle()
        request.disconnect()
        await request.finished()
        await in_line(inner, 0)
        await in_line(outer, 0)
        app.release("holder")
    assert "+it" not in app.log


async def test_the_body_is_replayed_through_both() -> None:
    """Read ahead twice, given to the app once."""
    app = StagedApp()
    inner = laned(app, key="x-inner", body_limit=5)
    outer = laned(inner, body_limit=9)
    async with serving(outer) as driver, watched(inner):
        post(driver, "alice", "one", headers={"x-inner": "hall"})
        post(driver, "bob", "two", headers={"x-inner": "room"})
        await app.entered("one")
        await app.entered("two")
        request = post(driver, "alice", "it", headers={"x-inner": "room"}, body=None)
        await send_pieces(request, b"0123456789abcdef", 3)
        app.release("one")
        await in_line(inner, 1)
        await passes()
        app.release("two", "it")
        assert (await request.response()).status == 200
    assert app.bodies["it"] == b"0123456789abcdef"


async def send_pieces(request: HttpRequest, body: bytes, size: int) -> None:
    """Send a body in pieces, to its end."""
    for at in range(0, len(body), size):
        await request.send_body(body[at : at + size], more=at + size < len(body))
    await request.until_idle()
