"""An event loop that ends with turns of its own, or right behind them: their lanes are free for the next one.

In a process of its own: what is open there is closed by nobody, and Python warns of that.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from engines.places import PLACES, Place, in_memory

pytestmark = pytest.mark.parametrize(
    "place", [place for place in PLACES if place is not in_memory], ids=lambda place: place.__name__
)

PROGRAMME = """
import asyncio, sys
from turnlane import Lanes

lanes = Lanes(sys.argv[1])

async def a_turn():
    async with asyncio.timeout(6), lanes.turn("k") as turn:  # a lease is 15
        print("has it", flush=True)

async def one():
    async with lanes.turn("k"):
        await asyncio.get_running_loop().create_future()
"""
BEHIND_A_TURN = """
for _ in range(3):
    asyncio.run(a_turn())
"""
WITH_TURNS = """
async def ends_with_them():
    tasks = [asyncio.create_task(one()), asyncio.create_task(one())]
    while not any(lane.holder and lane.waiting for lane in await lanes.snapshot_everywhere()):
        await asyncio.sleep(0)
    tasks.append(asyncio.create_task(one()))
    await asyncio.sleep(0)  # it has come, and nothing has answered

asyncio.run(ends_with_them())
asyncio.run(a_turn())
"""


def said_by(programme: str, place: Place, path: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMME + programme, place(path)().where],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_loop_that_ends_right_behind_a_turn_leaves_its_lane(place: Place, tmp_path: Path) -> None:
    """As where each request has a loop, or a programme runs one turn after the other and closes nothing."""
    assert said_by(BEHIND_A_TURN, place, tmp_path) == ["has it"] * 3


def test_a_loop_that_ends_with_turns_leaves_their_lanes(place: Place, tmp_path: Path) -> None:
    """That of the one that runs, and the places of those that wait, also of one that is on its way."""
    assert said_by(WITH_TURNS, place, tmp_path) == ["has it"]
