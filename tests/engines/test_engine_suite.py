"""The suite of engines, over each of them, and over engines that break it."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from turnlane.engines import Engine
from turnlane.engines.memory import MemoryEngine, MemoryLanes
from turnlane.testing.engine_suite import CHECKS, Check

Make = Callable[[Path], Callable[[], Engine]]


def in_memory(_: Path) -> Callable[[], Engine]:
    shared = MemoryLanes()
    return lambda: MemoryEngine(shared)


def in_files(path: Path) -> Callable[[], Engine]:
    from turnlane.engines.local import LocalEngine

    return lambda: LocalEngine(str(path / "lanes"))


PLACES = [in_memory, *([] if sys.platform == "win32" else [in_files])]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_every_engine_keeps_what_is_promised(tmp_path: Path, place: Make, check: Check) -> None:
    """Each promise, on a place of its own."""
    await check(place(tmp_path))
