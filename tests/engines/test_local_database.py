"""The database of lanes in a directory: its log is brought back beside the turns, and it is closed whatever goes on."""

import asyncio
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="lanes in a directory are POSIX")

CLOSED_AGAIN_AND_AGAIN = """
import asyncio, sys
from turnlane import Lanes
from turnlane.engines.local import database

async def main():
    database.CHECKPOINT_EVERY = 50
    for _ in range(30):
        async with Lanes(sys.argv[1]) as lanes:
            for _ in range(100):
                async with lanes.turn("hot"):
                    pass

asyncio.run(main())
"""


async def test_it_may_be_closed_while_its_log_is_brought_back(tmp_path: Path) -> None:
    """What is brought back in a thread has a connection of its own, which must not be closed under it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", CLOSED_AGAIN_AND_AGAIN, f"file://{tmp_path}/lanes")
    )
    async with asyncio.timeout(20):
        assert await process.wait() == 0
