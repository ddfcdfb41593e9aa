"""Where lanes of several processes may be: the URL of a place that is empty, by the name of its kind."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.postgresql import PostgresqlDatabase
from support.redis_servers import redis_url

__all__ = ("LEASED", "SHARED", "empty_place")

LEASED = ("redis", "postgresql")
SHARED = (*(() if sys.platform == "win32" else ("file",)), *LEASED)


@contextmanager
def empty_place(kind: str, path: Path, request: pytest.FixtureRequest) -> Generator[str, None, None]:
    """Have a place for a block; yields its URL. Without its server a test is skipped, on CI it fails."""
    if kind == "file":
        yield f"file://{path}/lanes"
    elif kind == "redis":
        with redis_url() as url:
            yield url
    else:
        database: PostgresqlDatabase = request.getfixturevalue("postgresql")
        yield database.new_url()
