"""A real PostgreSQL server, a database of its own for each run of the tests, and a stranger's connection to it.

The server is at TURNLANE_TEST_POSTGRESQL, else at 127.0.0.1. Without one its tests are skipped; on CI they fail.
"""

import asyncio
import importlib
import os
import threading
import uuid
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import pytest

from turnlane.postgresql import address_in

__all__ = ("PostgresqlDatabase", "a_database", "connect")

SERVER = "postgresql://postgres@127.0.0.1:5432/postgres"
LONGEST = 30.0
EMPTY = """
    SET LOCAL lock_timeout = '1s'; DELETE FROM {0}.session; UPDATE {0}.session_floor SET floor = 0;
    DELETE FROM {0}.transcript; DELETE FROM {0}.entry; DELETE FROM {0}.tombstone; DELETE FROM {0}.salvage;
    DELETE FROM {0}.transcript_lease
"""

_T = TypeVar("_T")


async def connect(url: str) -> Any:
    """Return a connection of the driver, which has no types."""
    asyncpg: Any = importlib.import_module("asyncpg")
    return await asyncpg.connect(address_in(url).dsn, timeout=5)


class PostgresqlDatabase:
    """An empty database, and a thread with a connection to it that stands for everybody who is none of us.

    Mutable: `_stranger`, the connection once there is one; `_left`, the URLs of schemas that tests are done with.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stranger", daemon=True)
        self._thread.start()
        self._stranger: Any = None
        self._left: list[str] = []

    def new_url(self) -> str:
        """Return the URL of a schema that nobody has used yet."""
        return f"{self.url}?schema=t{next(self._numbers)}"

    @contextmanager
    def lender(self) -> Generator[Callable[[], str], None, None]:
        """Lend URLs of schemas without rows until the block ends: to make one takes longer than most tests."""
        lent: list[str] = []

        def lend() -> str:
            lent.append(self._emptied() or self.new_url())
            return lent[-1]

        yield lend
        self._left += lent

    def _emptied(self) -> str:
        """Return the URL of a schema that was lent before, or nothing where there is none that can be emptied."""
        while self._left:
            url = self._left.pop()
            with suppress(Exception):  # nobody has used it, or somebody who was cut off keeps it locked
                self.execute(EMPTY.format(address_in(url).schema))
                return url
        return ""

    def execute(self, statement: str, *values: object) -> str:
        """Run statements at once, as a stranger; they must not wait for the caller's event loop."""
        return self._run(self.execute_soon(statement, *values))

    def rows(self, statement: str, *values: object) -> list[Any]:
        """Return the rows of a statement, as a stranger sees them."""

        async def fetch() -> list[Any]:
            return list(await (await self._connected()).fetch(statement, *values))

        return self._run(fetch())

    async def execute_soon(self, statement: str, *values: object) -> str:
        return str(await (await self._connected()).execute(statement, *values))

    async def aexecute(self, statement: str, *values: object) -> str:
        """Run statements while the caller's event loop goes on."""
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self.execute_soon(statement, *values), self._loop)
        )

    def terminate_others(self) -> int:
        """End all connections to the database but the stranger's, as an administrator may; return how many are gone."""
        return len(
            self.rows(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    def close(self) -> None:
        async def close() -> None:
            if self._stranger is not None:
                await self._stranger.close()

        self._run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LONGEST)
        self._loop.close()

    async def _connected(self) -> Any:
        if self._stranger is None:
            self._stranger = await connect(self.url)
        return self._stranger

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LONGEST)


@contextmanager
def a_database(*, encoding: str = "UTF8") -> Generator[PostgresqlDatabase, None, None]:
    """Make a database, and drop it when the block ends."""
    server = os.environ.get("TURNLANE_TEST_POSTGRESQL") or SERVER
    name = f"turnlane_test_{uuid.uuid4().hex[:12]}"
    try:
        _at_once(_execute(server, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"))
    except Exception as error:
        missing = f"no PostgreSQL server at {address_in(server).where}: {error}; name one in TURNLANE_TEST_POSTGRESQL"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    # No test takes the server down: nobody need wait for its disk.
    _at_once(_execute(server, f"ALTER DATABASE {name} SET synchronous_commit = off"))
    database = PostgresqlDatabase(urlunsplit(urlsplit(server)._replace(path=f"/{name}")))
    try:
        yield database
    finally:
        database.close()
        _at_once(_execute(server, f"DROP DATABASE {name} WITH (FORCE)"))


def _at_once(work: Coroutine[Any, Any, None]) -> None:
    """Run something in a thread: the caller may have an event loop that runs."""
    failed: list[Exception] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


async def _execute(url: str, statement: str) -> None:
    connection = await connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
