"""The suite of engines, over Redis."""

import pytest

from support.redis_servers import redis_url
from turnlane.engines.redis import RedisEngine
from turnlane.testing.engine_suite import CHECKS, Check


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_redis_keeps_what_is_promised(check: Check) -> None:
    """Each promise, with keys of its own."""
    with redis_url() as url:
        await check(lambda: RedisEngine(url))
