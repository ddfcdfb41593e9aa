"""Functions in a database: each call is one transaction, of one statement where nothing stands in between."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from turnlane.postgresql.database import Database
from turnlane.postgresql.driver import Connection, driving
from turnlane.postgresql.hosts import first_patience
from turnlane.postgresql.pools import Pools
from turnlane.postgresql.reasons import Failed, PostgresqlError, Unavailable, Unsettled
from turnlane.postgresql.transaction import PLACEHOLDER, Row, Transaction, quoted
from turnlane.postgresql.urls import address_in

__all__ = ("Functions", "is_proxied")

MOST_TRIES = 3
TO_GIVE_BACK = 2.0
TO_OPEN = 10.0  # seconds at least: the schema may have to be made
UNDEFINED_FUNCTION = "42883"
SERVER_PID = "SELECT pg_backend_pid()"


class Functions:
    """Calls functions that may be called again: one whose connection was lost is, once.

    Behind a proxy, which another process of the server answers than says so, each call is a transaction that begins and
    ends with statements; else it is a single statement that is kept prepared. Nothing waits longer than `timeout`, and
    on the server less.

    Not guaranteed: that a call that was not answered in time has not come, or will not come, to its end there: the
    server stops it a quarter of `timeout` before.

    Mutable: `is_direct`, None until it is open.

    Args:
        url: as for `Database`.
        timeout: seconds a call may take, connecting and waiting for others included.
        pool_size: most connections of each event loop.

    Raises:
        ValueError: as `Database`.
    """

    def __init__(self, url: str, *, timeout: float = 10.0, pool_size: int = 5) -> None:
        self._database = Database(url, timeout=timeout, pool_size=pool_size)
        self._opening = Database(url, timeout=max(timeout, TO_OPEN), pool_size=1)
        self._pools = Pools(address_in(url).dsn, size=pool_size, timeout=timeout, direct=True)
        self._timeout = timeout
        self._patience = first_patience(address_in(url).dsn, timeout)
        self.where: str = self._database.where
        self.schema: str = self._database.schema
        self.is_direct: bool | None = None

    async def open(self) -> None:
        """Connect, bring the schema up to date, and find out what stands in between.

        Raises:
            PostgresqlError: it could not.
        """
        try:
            self.is_direct = not await self._opening.read(_is_proxied)
        finally:
            await self._opening.aclose()

    async def aclose(self) -> None:
        """Finish what has begun and close the connections. Does nothing in a forked child."""
        self.is_direct = None
        await self._pools.aclose()
        await self._database.aclose()

    async def call(self, statement: str, *values: object) -> Sequence[Row]:
        """Return the rows of a statement that calls a function; `{schema}` in it is the schema.

        Raises:
            Unsettled: nobody knows whether it happened.
            PostgresqlError: it did not happen.
        """
        if self.is_direct is None:
            await self.open()
        if self.is_direct:
            statement = statement.replace(PLACEHOLDER, quoted(self.schema))
            return await self._tried(statement, values)

        async def job(transaction: Transaction) -> Sequence[Row]:
            return await transaction.rows(statement, *values)

        return await self._database.write(job)

    async def _tried(self, statement: str, values: Sequence[object]) -> Sequence[Row]:
        now = asyncio.get_running_loop().time
        deadline = now() + self._timeout
        unsettled = False
        for tries in count(1):
            call = _Call(statement, values)
            bound = asyncio.timeout_at(min(deadline, now() + self._patience) if tries == 1 else deadline)
            try:
                async with bound:
                    return await call.run(self._pools)
            except Failed as failed:
                if failed.is_gone or failed.state == UNDEFINED_FUNCTION:
                    self.is_direct = None  # the next call makes the schema anew
                unsettled = unsettled or (call.was_sent and failed.is_lost)
                again = failed.is_repeatable or (failed.is_lost and call.was_sent)
                if not again or tries >= MOST_TRIES or bound.expired():
                    raise self._told(failed.reason, unsettled=unsettled) from failed
                if failed.is_lost:
                    await (await self._pools.get()).expire_connections()
            except TimeoutError:
                unsettled = unsettled or call.was_sent
                await (await self._pools.get()).expire_connections()
                if tries > 1 or self._patience == self._timeout:
                    reason = f"there was no answer within {self._timeout:g} s"
                    raise self._told(reason, unsettled=unsettled) from None
        raise AssertionError("the loop has no end")

    @staticmethod
    def _told(reason: str, *, unsettled: bool) -> PostgresqlError:
        return Unsettled(reason, None) if unsettled else Unavailable(reason)


class _Call:
    """One statement, once. Mutable: `was_sent`."""

    def __init__(self, statement: str, values: Sequence[object]) -> None:
        self._statement = statement
        self._values = values
        self.was_sent: bool = False

    async def run(self, pools: Pools) -> Sequence[Row]:
        pool = await pools.get()
        with driving():
            connection = await pool.acquire()
        try:
            self.was_sent = True
            with driving():
                return await connection.fetch(self._statement, *self._values)
        except BaseException as error:
            if not isinstance(error, Failed) or error.is_lost:
                _terminate(connection)
            raise
        finally:
            await pool.release(connection, timeout=TO_GIVE_BACK)


async def is_proxied(connection: Connection) -> bool:
    """Tell whether another process serves a connection than whoever answered it has said: there is a proxy."""
    with driving():
        await connection.execute("BEGIN")
        found: list[Any] = await connection.fetch(SERVER_PID)
        await connection.execute("COMMIT")
    return bool(found[0][0] != connection.get_server_pid())


async def _is_proxied(transaction: Transaction) -> bool:
    row = await transaction.row(SERVER_PID)
    return row is None or row[0] != transaction.server_pid


def _terminate(connection: Connection) -> None:
    with suppress(Exception):  # the pool has taken it back already
        connection.terminate()
