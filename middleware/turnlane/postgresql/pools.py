"""A pool of connections for each event loop that uses a database."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import suppress

from turnlane.postgresql.driver import Pool, pool_of
from turnlane.postgresql.reasons import Forked

__all__ = ("Pools",)

TO_CLOSE = 2.0

Kept = tuple[Pool, AsyncGenerator[None, None]]


class Pools:
    """Makes the pool of a loop when it is first asked for, and closes it with `aclose`, or when the loop ends.

    A loop that ends closes its asynchronous generators, so each pool has one that waits for that.

    Mutable: `_kept`, the pools by loop; `_pid`, the process they belong to, None while there is none.

    Args:
        dsn: where to connect to.
        size: most connections of a pool.
        timeout: seconds that connecting may take.
        direct: as for `pool_of`.
    """

    def __init__(self, dsn: str, *, size: int, timeout: float, direct: bool = False) -> None:
        self._dsn = dsn
        self._size = size
        self._timeout = timeout
        self._direct = direct
        self._kept: dict[asyncio.AbstractEventLoop, Kept] = {}
        self._pid: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a pool."""
        return bool(self._kept)

    async def get(self) -> Pool:
        """Return the pool of the running loop.

        Raises:
            Forked: the pools are those of another process.
            Refused: the driver is not installed.
        """
        if self._pid is not None and self._pid != os.getpid():
            raise Forked
        loop = asyncio.get_running_loop()
        kept = self._kept.get(loop)
        if kept is None:
            for ended in [found for found in tuple(self._kept) if found.is_closed()]:
                self._kept.pop(ended, None)
            self._pid = os.getpid()
            # Without a connection to make, this does not let other tasks run.
            pool = await pool_of(self._dsn, size=self._size, timeout=self._timeout, direct=self._direct)
            keeper = _until_the_end(self._kept, loop, pool)
            kept = self._kept[loop] = (pool, keeper)
            await anext(keeper)
        return kept[0]

    async def aclose(self) -> None:
        """Close what this process opened: the pool of the running loop when its work is done, the others at once."""
        if self._pid != os.getpid():
            return
        own = self._kept.pop(asyncio.get_running_loop(), None)
        for loop, (pool, _) in tuple(self._kept.items()):
            with suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(pool.terminate)
        self._kept.clear()
        self._pid = None
        if own is not None:
            await own[1].aclose()


async def _until_the_end(
    kept: dict[asyncio.AbstractEventLoop, Kept], loop: asyncio.AbstractEventLoop, pool: Pool
) -> AsyncGenerator[None, None]:
    pid = os.getpid()
    try:
        yield
    finally:
        kept.pop(loop, None)
        if pid == os.getpid():
            await _close(pool)


async def _close(pool: Pool) -> None:
    try:
        async with asyncio.timeout(TO_CLOSE):
            await pool.close()
    except (Exception, asyncio.CancelledError) as error:
        pool.terminate()
        await asyncio.sleep(0)  # sockets close in the next pass
        if isinstance(error, asyncio.CancelledError):
            raise
