"""One attempt at a transaction."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from turnlane.postgresql.driver import Connection, Pool, driving
from turnlane.postgresql.reasons import Failed, Unsettled
from turnlane.postgresql.transaction import Transaction

__all__ = ("Attempt", "Job")

_T = TypeVar("_T")

Job = Callable[[Transaction], Awaitable[_T]]
"""What is done in a transaction. It may be called more than once; only what its last call did counts."""

TO_GIVE_BACK = 2.0


class Attempt:
    """Begins, does a job, commits; and says how far it came.

    Mutable: `has_connection`; `has_begun`, once the server has answered; `is_committing`, from when the commit is asked
    for until it is answered; `result`, what the job has returned.
    """

    __slots__ = ("_pool", "_schema", "has_begun", "has_connection", "is_committing", "result")

    def __init__(self, pool: Pool, schema: str) -> None:
        self._pool = pool
        self._schema = schema
        self.has_connection: bool = False
        self.has_begun: bool = False
        self.is_committing: bool = False
        self.result: object = None

    def may_be_repeated(self, failed: Failed, *, last: bool) -> bool:
        """Tell whether another attempt is harmless and may do: this one has done nothing."""
        if failed.is_busy:
            return True
        return not last and (failed.is_repeatable or (failed.is_lost and self.has_connection))

    async def run(self, job: Job[_T], begin: str, *, begun: Callable[[], None]) -> _T:
        """Return what the job returns, once it is committed.

        Args:
            job: what is done.
            begin: what the transaction begins with.
            begun: called when the server has answered that.

        Raises:
            Unsettled: the commit was asked for, and no answer came.
            Failed: the driver failed before that, or the commit was refused.
        """
        with driving():
            connection = await self._pool.acquire()
        self.has_connection = True
        try:
            with driving():
                await connection.execute(begin)
            self.has_begun = True
            begun()
            result = await job(Transaction(connection, self._schema))
            self.result, self.is_committing = result, True
            with driving():
                status = await connection.execute("COMMIT")
            self.is_committing = False
            if status != "COMMIT":
                raise Failed(f"the server answered {status} to COMMIT", state="40000")
            return result
        except BaseException as error:
            await self._abandon(connection, error)
            if self.is_committing and isinstance(error, Failed):
                if error.is_lost:
                    raise Unsettled(error.reason, self.result) from error
                self.is_committing = False
            raise
        finally:
            await self._pool.release(connection, timeout=TO_GIVE_BACK)

    async def _abandon(self, connection: Connection, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError) or (isinstance(error, Failed) and error.is_lost):
            _terminate(connection)  # whatever it is in the middle of, it is not waited for
            return
        try:
            async with asyncio.timeout(TO_GIVE_BACK):
                await connection.execute("ROLLBACK")
        except BaseException as another:
            _terminate(connection)
            if not isinstance(another, Exception):
                raise


def _terminate(connection: Connection) -> None:
    with suppress(Exception):  # one that is lost the pool has taken back already, and the driver complains
        connection.terminate()
