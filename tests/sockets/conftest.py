"""The servers the tests run with, and the event loops."""

import asyncio
import sys
from collections.abc import Callable, Mapping

import pytest

from support.server_loopback import SERVERS

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Run each async test here on both loops, unless its marker chooses one."""
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if sys.platform != "win32":
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    """Each server, and uvicorn with each of its parsers."""
    return str(request.param)
