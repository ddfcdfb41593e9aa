"""Call chains over workers that share lanes: who would wait for itself is refused at once, whichever worker it asks."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engines.places import PLACES, Place
from engines.visits import within
from support.asgi_staged import StagedApp, laned, post
from turnlane import Enqueue, Interrupt, Lanes, Turn
from turnlane.policies import Policy
from turnlane.testing import AsgiDriver, Response
from turnlane.turns.chain import CHAIN_HEADER

pytestmark = pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)

PATIENT = Enqueue(wait_timeout=60)


@asynccontextmanager
async def workers(
    path: Path, place: Place, app: StagedApp, *, policy: Policy = PATIENT, way: str = "short"
) -> AsyncGenerator[tuple[AsgiDriver, AsgiDriver], None]:
    """Two of them, with one app."""
    make = place(path)
    async with Lanes(make()) as one, Lanes(make()) as other:
        first, second = (laned(app, way=way, lanes=lanes, policy=policy) for lanes in (one, other))
        async with AsgiDriver(first) as here, AsgiDriver(second) as there:
            yield here, there


async def held_by(app: StagedApp, driver: AsgiDriver, key: str, **headers: str) -> Turn:
    post(driver, key, key, headers=headers)
    await within(app.entered(key))
    turn = app.turns[key]
    assert turn is not None
    return turn


def outcome(response: Response) -> tuple[int, str | None]:
    return response.status, None if response.status == 200 else response.json()["error"]["code"]


@pytest.mark.parametrize("way", ["short", "long", "sessions"])
@pytest.mark.parametrize("policy", [PATIENT, Interrupt(grace=60)], ids=["enqueue", "interrupt"])
async def test_the_lane_of_its_caller(tmp_path: Path, place: Place, policy: Policy, way: str) -> None:
    """The caller goes on: it is not interrupted, and carries nothing."""
    app = StagedApp()
    async with workers(tmp_path, place, app, policy=policy, way=way) as (here, there):
        caller = await held_by(app, here, "a")
        refused = await within(post(there, "a", "it", headers=caller.headers()).response())
        assert outcome(refused) == (409, "lane_reentry")
        assert not caller.interrupted
        app.release("a")
    assert "+it" not in app.log


async def test_the_lane_of_a_caller_further_out(tmp_path: Path, place: Place) -> None:
    """A called b in the other worker, which calls for a, wherever."""
    app = StagedApp()
    async with workers(tmp_path, place, app) as (here, there):
        outer = await held_by(app, here, "a")
        inner = await held_by(app, there, "b", **outer.headers())
        for driver in (here, there):
            refused = await within(post(driver, "a", "it", headers=inner.headers()).response())
            assert outcome(refused) == (409, "lane_reentry")
        app.release("a", "b")


async def test_a_lane_that_others_have_is_waited_for(tmp_path: Path, place: Place) -> None:
    """A chain refuses nobody whose lane is not one of its own, and a seal that is made up refuses nobody."""
    app = StagedApp()
    async with workers(tmp_path, place, app) as (here, there):
        caller, stranger = await held_by(app, here, "a"), await held_by(app, here, "b")
        made_up = {CHAIN_HEADER: f"{stranger.id}.0123456789abcdef0123"}
        one = post(there, "b", "1", headers=caller.headers())
        other = post(there, "b", "2", headers=made_up)
        app.release("1", "2", "b")
        responses = await within(asyncio.gather(one.response(), other.response()))
        assert [outcome(each) for each in responses] == [(200, None)] * 2
        app.release("a")
