"""Where engines of the tests live: what makes several that share one place."""

import sys
from collections.abc import Callable
from pathlib import Path

from support.postgresql import PostgresqlDatabase
from turnlane.engines import Engine
from turnlane.engines.memory import MemoryEngine, MemoryLanes

__all__ = ("PLACES", "Place", "in_files", "in_memory", "in_postgresql", "in_redis")

Place = Callable[[Path], Callable[[], Engine]]


def in_memory(_: Path) -> Callable[[], Engine]:
    shared = MemoryLanes()
    return lambda: MemoryEngine(shared)


def in_files(path: Path) -> Callable[[], Engine]:
    from turnlane.engines.local import LocalEngine  # not on Windows

    return lambda: LocalEngine(str(path / "lanes"))


class InRedis:
    """A prefix of its own each time. Mutable: `new_url`, which a fixture sets where a test asks for this place."""

    __name__ = "in_redis"

    def __init__(self) -> None:
        self.new_url: Callable[[], str] | None = None

    def __call__(self, _: Path) -> Callable[[], Engine]:
        from turnlane.engines.redis import RedisEngine

        assert self.new_url is not None
        url = self.new_url()
        return lambda: RedisEngine(url)


class InPostgresql:
    """A schema of its own each time. Mutable: `database`, which a fixture sets where a test asks for this place."""

    __name__ = "in_postgresql"

    def __init__(self) -> None:
        self.database: PostgresqlDatabase | None = None

    def __call__(self, _: Path) -> Callable[[], Engine]:
        from turnlane.engines.postgresql import PostgresqlEngine

        assert self.database is not None
        url = self.database.new_url()
        return lambda: PostgresqlEngine(url)


in_redis = InRedis()
in_postgresql = InPostgresql()
PLACES: list[Place] = [in_memory, *([] if sys.platform == "win32" else [in_files]), in_redis, in_postgresql]
