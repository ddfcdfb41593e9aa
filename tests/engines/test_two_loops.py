"""Lanes that several processes share, used by turns in loops that both go on."""

# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import pytest

from engines.places import PLACES, Place, in_memory
from support.transcripts_watched import until
from turnlane import Lanes
from turnlane.hooks import LaneLost
from turnlane.lanes.shared import SharedGate

pytestmark = pytest.mark.parametrize(
    "place", [place for place in PLACES if place is not in_memory], ids=lambda place: place.__name__
)

PATIENCE = 15.0

_T = TypeVar("_T")


@contextmanager
def a_loop_of_its_own() -> Generator[asyncio.AbstractEventLoop, None, None]:
    """Have a loop run in a thread of its own for a block."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        done_in(loop, loop.shutdown_asyncgens())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


def done_in(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE)


async def nothing_else_runs() -> bool:
    """Wait until this is the only task of its loop; tell whether it came so far."""
    try:
        await until(lambda: len(asyncio.all_tasks()) == 1)
    except TimeoutError:
        return False
    return True


def url_at(place: Place, path: Path) -> str:
    """Return a URL of a place: an engine that was given is used up by the first loop."""
    where = place(path)().where
    return where if where.startswith("file:") else f"{where}{'&' if '?' in where else '?'}lease=1"


def test_a_second_loop_takes_over_and_nothing_of_the_first_is_left(tmp_path: Path, place: Place) -> None:
    """What renewed in the first gives no lane of the second up for lost; what listened there is closed."""
    lanes = Lanes(url_at(place, tmp_path))
    lost: list[LaneLost] = []
    lanes.hooks.on(LaneLost, lost.append)

    async def turn(seconds: float) -> None:
        async with lanes.turn("k"):
            await asyncio.sleep(seconds)  # the end of a lease: nobody is waited for
        assert isinstance(lanes.gate, SharedGate)
        errands = lanes.gate._attachment._errands
        await until(lambda: errands is not None and errands.idle)

    with a_loop_of_its_own() as first, a_loop_of_its_own() as second:
        done_in(first, turn(0))
        done_in(second, turn(2.0))
        assert not lost
        assert done_in(first, nothing_else_runs())
        done_in(first, turn(0))
        assert done_in(second, nothing_else_runs())
        done_in(first, lanes.aclose())


def test_closing_waits_for_nothing_in_a_loop_that_does_not_run(tmp_path: Path, place: Place) -> None:
    """The lanes stay open in the loop that they are open in, if it has something to do, and it can close them."""
    lanes = Lanes(url_at(place, tmp_path))

    async def turn() -> None:
        async with lanes.turn("k"):
            pass  # what its end is told by may be on its way when this returns

    with asyncio.Runner() as idle, asyncio.Runner() as other:
        idle.run(turn())
        other.run(asyncio.wait_for(lanes.aclose(), PATIENCE))
        idle.run(lanes.aclose())
