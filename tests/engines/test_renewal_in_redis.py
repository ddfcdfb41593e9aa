"""Leases that can not be renewed: who has a lane gives it up before another can have it."""

import asyncio
from pathlib import Path

import pytest

from support.redis_servers import private_redis
from turnlane import Lanes, Turn
from turnlane.engines.redis import RedisEngine
from turnlane.errors import EngineUnavailable

LEASE = 3.0


@pytest.mark.parametrize("timeout", [LEASE / 5, LEASE / 3, LEASE])
async def test_a_lane_is_given_up_before_its_lease_ends(tmp_path: Path, timeout: float) -> None:
    """However long the engine waits for an answer: a fifth of the lease is what it does by default."""
    loop = asyncio.get_running_loop()
    given_up: list[tuple[Turn, float]] = []
    with private_redis(tmp_path) as server:

        async def turn_that_is_lost(lanes: Lanes) -> None:
            async with lanes.turn("k") as turn:
                try:
                    with server.stopped():
                        await asyncio.Event().wait()
                finally:
                    given_up.append((turn, loop.time()))

        async with Lanes(RedisEngine(server.url, lease=LEASE, timeout=timeout)) as lanes:
            async with lanes.turn("the first opens them"):
                pass
            asked = loop.time()
            with pytest.raises(EngineUnavailable, match="could not be renewed"):
                await turn_that_is_lost(lanes)
    ((turn, at),) = given_up
    assert turn.lost
    assert at - asked < LEASE
