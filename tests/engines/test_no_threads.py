"""Engines whose event loop has no thread left: all of them wait for turns, as those of a server may."""

import asyncio
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from anyio import to_thread

from support.engine_places import SHARED, empty_place
from turnlane import Lanes

LONGEST = 20.0


@pytest.fixture(params=SHARED)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str, None, None]:
    """A place that holds nothing, of each engine."""
    with empty_place(request.param, tmp_path, request) as url:
        yield url


async def test_a_turn_needs_none_of_its_loop(url: str) -> None:
    """Also the first one, which opens the engine; and its end."""
    go = threading.Event()
    loop, threads = asyncio.get_running_loop(), to_thread.current_default_thread_limiter()
    usual, threads.total_tokens = threads.total_tokens, 1
    with ThreadPoolExecutor(1) as executor:
        loop.set_default_executor(executor)
        busy = [asyncio.ensure_future(asyncio.to_thread(go.wait)), asyncio.ensure_future(to_thread.run_sync(go.wait))]
        try:
            async with asyncio.timeout(LONGEST), Lanes(url) as lanes, lanes.turn("k"):
                assert lanes.statistics().running == 1
        finally:
            go.set()
            await asyncio.gather(*busy)
            threads.total_tokens = usual
