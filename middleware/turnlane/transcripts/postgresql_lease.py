"""The write lock of a transcript in PostgreSQL: a row that says who has it until when, by the server's clock.

It holds no connection and no transaction while a turn works. It only saves work: what is written is checked by version
and token, so two who believe that they have it can not both write.
"""

import asyncio
import logging
import random
import uuid

from turnlane.clock import Clock
from turnlane.errors import TranscriptBusy
from turnlane.postgresql import Database, PostgresqlError, Transaction, Unsettled
from turnlane.transcripts.working import to_its_end

__all__ = ("Lease",)

logger: logging.Logger = logging.getLogger("turnlane.transcripts")

LASTS = 10.0
RENEWED_AFTER = LASTS / 3
FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.1
TO_GIVE_BACK = 2.0

# A time that is further away than a lock lasts is one of before the clock was set back: it is cut, and not waited for.
TAKE = """
    INSERT INTO {schema}.transcript_lease AS lease (session_id, holder, until)
    VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
    ON CONFLICT (session_id) DO UPDATE
    SET until = clock_timestamp() + make_interval(secs => $3),
        holder = CASE WHEN lease.until <= clock_timestamp() THEN excluded.holder ELSE lease.holder END
    WHERE lease.holder = excluded.holder OR lease.until <= clock_timestamp()
        OR lease.until > clock_timestamp() + make_interval(secs => $3)
    RETURNING holder
"""
GIVE_BACK = "DELETE FROM {schema}.transcript_lease WHERE session_id = $1 AND holder = $2"


class Lease:
    """One opener's lock. It is renewed while it is held, from a timer, so that a short hold costs none of that.

    Mutable: `_may_be_held`, from the first try until it was given back; `_timer` and `_renewing`, which renew it.

    Args:
        database: where the row is.
        key: what stands for the session in it.
        path: names the transcript in errors.
        clock: measures how long it is waited for.
    """

    __slots__ = ("_clock", "_database", "_key", "_may_be_held", "_path", "_renewing", "_timer", "holder")

    def __init__(self, database: Database, key: str, *, path: str, clock: Clock) -> None:
        self._database = database
        self._key = key
        self._path = path
        self._clock = clock
        self.holder: uuid.UUID = uuid.uuid4()
        self._may_be_held = False
        self._timer: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def take(self, timeout: float) -> None:
        """Take the lock. It is only ever tried, with pauses.

        Raises:
            TranscriptBusy: others kept it for `timeout` seconds.
            PostgresqlError: the database could not.
        """
        deadline, pause = self._clock.monotonic() + timeout, FIRST_PAUSE
        while True:
            self._may_be_held = True
            try:
                taken = await to_its_end(asyncio.ensure_future(self._database.write(self._take)))
            except BaseException:
                await to_its_end(asyncio.ensure_future(self.give_back()))
                raise
            if taken:
                break
            self._may_be_held = False
            left = deadline - self._clock.monotonic()
            if left <= 0:
                raise TranscriptBusy(self._path, lock_timeout=timeout)
            await asyncio.sleep(min(pause * random.uniform(0.5, 1), left))  # noqa: S311  no secret
            pause = min(2 * pause, LONGEST_PAUSE)
        self._timer = asyncio.get_running_loop().call_later(RENEWED_AFTER, self._begin_to_renew)

    async def give_back(self) -> None:
        """Let the lock go, if it may be held. Never raises: what can not be given back ends by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait({self._renewing})
            self._renewing = None
        if not self._may_be_held:
            return
        self._may_be_held = False
        try:
            async with asyncio.timeout(TO_GIVE_BACK):
                try:
                    await self._database.write(self._give_back)
                except Unsettled:
                    await self._database.write(self._give_back)  # twice is once
        except (PostgresqlError, TimeoutError) as error:
            logger.warning("lock_not_given_back path=%s ends_within=%g: %s", self._path, LASTS, error)

    def _begin_to_renew(self) -> None:
        self._timer = None
        self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        while True:
            try:
                # One that had ended is taken anew, if nobody else has: then nothing was written meanwhile.
                if not await self._database.write(self._take):
                    logger.warning("lock_lost path=%s: it was not renewed in time", self._path)
                    return
            except PostgresqlError as error:
                logger.warning("lock_not_renewed path=%s: %s", self._path, error)
            await asyncio.sleep(RENEWED_AFTER)

    async def _take(self, transaction: Transaction) -> bool:
        row = await transaction.row(TAKE, self._key, self.holder, LASTS)
        return row is not None and row[0] == self.holder

    async def _give_back(self, transaction: Transaction) -> None:
        await transaction.execute(GIVE_BACK, self._key, self.holder)
