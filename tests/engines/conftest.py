"""What the tests of engines need that not every machine has."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from engines.places import in_postgresql, in_redis
from support.redis_servers import redis_url


@pytest.fixture(autouse=True)
def server_of_the_place(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have a server where a test is at a place that is one."""
    callspec = getattr(request.node, "callspec", None)
    places = [] if callspec is None else list(callspec.params.values())
    with ExitStack() as stack:
        if in_postgresql in places:
            in_postgresql.database = request.getfixturevalue("postgresql")
        if in_redis in places:
            in_redis.new_url = lambda: stack.enter_context(redis_url())
        yield
