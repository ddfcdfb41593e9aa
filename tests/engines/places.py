"""Where engines of the tests live: what makes several that share one place."""

import sys
from collections.abc import Callable
from pathlib import Path

from turnlane.engines import Engine
from turnlane.engines.memory import MemoryEngine, MemoryLanes

__all__ = ("PLACES", "Place", "in_files", "in_memory")

Place = Callable[[Path], Callable[[], Engine]]


def in_memory(_: Path) -> Callable[[], Engine]:
    shared = MemoryLanes()
    return lambda: MemoryEngine(shared)


def in_files(path: Path) -> Callable[[], Engine]:
    from turnlane.engines.local import LocalEngine  # not on Windows

    return lambda: LocalEngine(str(path / "lanes"))


PLACES: list[Place] = [in_memory, *([] if sys.platform == "win32" else [in_files])]
