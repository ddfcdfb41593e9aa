"""A database: transactions in a pool of connections, made ready at first use."""

import asyncio
import math
import random
from functools import partial
from itertools import count
from typing import TypeVar, cast

from anyio import CapacityLimiter, to_thread

from turnlane.postgresql.attempt import Attempt, Job
from turnlane.postgresql.driver import load_driver, require_driver
from turnlane.postgresql.hosts import first_patience
from turnlane.postgresql.migrations import Migration, migrate, migrations, require_known, version_of
from turnlane.postgresql.pools import Pools
from turnlane.postgresql.reasons import Failed, Refused, Unavailable, Unsettled
from turnlane.postgresql.transaction import Transaction, begin_of
from turnlane.postgresql.urls import address_in

__all__ = ("Database",)

_T = TypeVar("_T")

MOST_TRIES = 5
LONGEST_PAUSE = 0.05


class Database:
    """Runs jobs, each in a transaction of its own, on pools that are opened by the first one, one for each event loop.

    Every statement is in a transaction, no statement is kept prepared and nothing of a session is set: a proxy that
    gives each transaction another connection (pgbouncer, in transaction mode) does not matter. A job is run again
    where that is harmless: the transaction before did not happen, because others came in between or the connection
    was lost before the commit was asked for. Nothing waits longer than `timeout`, here or, for locks, on the server.

    Not guaranteed: that a commit during which the connection is lost is known (`Unsettled`).

    Mutable: `_ready`, whether the schema is known to be there.

    Args:
        url: `postgresql://user:password@host:port/database`; `?schema=name` names the schema, else `turnlane`.
        timeout: seconds a transaction may take, connecting and waiting for others included.
        pool_size: most connections of each event loop.

    Raises:
        ValueError: the URL is none, or a number is out of its range. It does not show the URL.
        NotConfigured: the driver is not installed.
    """

    def __init__(self, url: str, *, timeout: float = 10.0, pool_size: int = 5) -> None:
        address = address_in(url)
        if not (math.isfinite(timeout) and timeout > 0):
            raise ValueError(f"timeout must be greater than 0 seconds, not {timeout!r}")
        if pool_size < 1:
            raise ValueError(f"pool_size must be at least 1, not {pool_size!r}")
        require_driver(address.where)
        self.where: str = address.where
        self.schema: str = address.schema
        self._timeout = timeout
        self._patience = first_patience(address.dsn, timeout)
        self._pools = Pools(address.dsn, size=pool_size, timeout=timeout)
        self._ready = False

    def __repr__(self) -> str:
        return f"<Database {self.where} {'open' if self.is_open else 'not open'}>"

    @property
    def is_open(self) -> bool:
        """Whether anything was asked of it since the last `aclose`."""
        return self._pools.is_open

    async def open(self) -> None:
        """Connect, and bring the schema up to date if it is not.

        Raises:
            PostgresqlError: it could not.
        """
        await self.read(_nothing)

    async def aclose(self) -> None:
        """Finish what has begun and close the connections. Does nothing in a forked child."""
        self._ready = False
        await self._pools.aclose()

    async def read(self, job: Job[_T]) -> _T:
        """Return what a job returns that sees one state of the database, and changes nothing.

        Raises:
            PostgresqlError: it could not. What the job raises goes through as it is, unless the driver raised it.
        """
        try:
            return await self._run(job, begin_of(write=False, timeout=self._timeout))
        except Unsettled as unsettled:
            return cast("_T", unsettled.result)  # all was read, and there was nothing to commit

    async def write(self, job: Job[_T], *, durable: bool | None = None) -> _T:
        """Return what a job returns, once what it did is committed.

        Args:
            job: each of its statements sees what others have committed. It commits nothing if it raises.
            durable: False lets a crash of the server take the commit back, True does not; None is as the server is set.

        Raises:
            Unsettled: nobody knows whether it happened.
            PostgresqlError: it did not happen. What the job raises goes through as it is, unless the driver raised it.
        """
        return await self._run(job, begin_of(write=True, timeout=self._timeout, durable=durable))

    async def _run(self, job: Job[_T], begin: str) -> _T:
        deadline = asyncio.get_running_loop().time() + self._timeout
        if not self._ready:
            await self._make_ready(deadline)
        return await self._tried(job, begin, deadline)

    async def _tried(self, job: Job[_T], begin: str, deadline: float) -> _T:
        for tries in count(1):
            pool = await self._pools.get()
            attempt = Attempt(pool, self.schema)
            bound = asyncio.timeout_at(deadline if tries > 1 else deadline - self._timeout + self._patience)
            try:
                async with bound:
                    return await attempt.run(job, begin, begun=partial(bound.reschedule, deadline))
            except Failed as failed:
                if failed.is_gone:
                    self._ready = False
                if not attempt.may_be_repeated(failed, last=tries >= MOST_TRIES) or bound.expired():
                    raise
                if failed.is_lost and attempt.has_connection:
                    await pool.expire_connections()
            except TimeoutError:
                if not bound.expired():
                    raise  # of the job
                await pool.expire_connections()
                reason = f"there was no answer within {self._timeout:g} s"
                if attempt.is_committing:
                    raise Unsettled(reason, attempt.result) from None
                if attempt.has_begun or tries > 1 or self._patience == self._timeout:
                    raise Unavailable(reason) from None
            await asyncio.sleep(random.uniform(0, LONGEST_PAUSE) if tries > 1 else 0)  # noqa: S311  no secret
        raise AssertionError

    async def _make_ready(self, deadline: float) -> None:
        steps = await to_thread.run_sync(_known, limiter=CapacityLimiter(1))  # those of a server may all wait for it
        try:
            version = await self._tried(
                partial(version_of, schema=self.schema), begin_of(write=False, timeout=self._timeout), deadline
            )
            require_known(version, steps)
            if version < len(steps):
                job = partial(migrate, schema=self.schema, steps=steps)
                await self._tried(job, begin_of(write=True, timeout=self._timeout), deadline)
        except Unsettled as unsettled:
            raise Unavailable(unsettled.reason) from unsettled  # the next call looks again
        except Failed as failed:
            if not failed.is_forbidden:
                raise
            needs = f"a user who may has to make or change the schema {self.schema!r}, by using it once"
            raise Refused(f"{failed.reason}; {needs}, or to grant USAGE on it and all on its tables") from failed
        self._ready = True


def _known() -> tuple[Migration, ...]:
    load_driver()
    return migrations()


async def _nothing(_: Transaction) -> None:
    """Do nothing."""
