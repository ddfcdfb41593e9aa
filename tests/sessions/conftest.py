import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from sessions.helpers import StepClock, store_url
from turnlane.sessions import Sessions


@pytest.fixture(params=["memory", "sqlite", "redis", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store, of each kind."""
    if request.param == "postgresql":
        lend: Callable[[], str] = request.getfixturevalue("lend")
        yield lend()
        return
    with store_url(str(request.param), tmp_path) as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file can be made."""
    return tmp_path / "sessions.db"


@pytest.fixture
def clock() -> StepClock:
    """A wall clock moved by hand."""
    return StepClock()


@pytest.fixture
async def sessions(url: str, clock: StepClock) -> AsyncIterator[Sessions]:
    """Open sessions on each kind of store."""
    async with Sessions(url, clock=clock) as opened:
        yield opened
    assert len(asyncio.all_tasks()) == 1  # nothing was left running
