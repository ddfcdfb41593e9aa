"""The one connection of a worker that hears its notes, and what is done while there is none: looking for them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from turnlane.postgresql import PostgresqlError, is_proxied
from turnlane.postgresql.driver import Listening, driving, listening_to

__all__ = ("Listener",)

logger: logging.Logger = logging.getLogger("turnlane.lanes")

POLL = 0.25  # seconds between two looks where nothing can be heard
LONGEST_PAUSE = 2.0
TO_CLOSE = 1.0


class Listener:
    """Listens on channels, connects again when that is lost, and looks for what was missed.

    Where a proxy answers that gives each transaction another connection, nothing can be heard: it looks every 250 ms.

    Mutable: `_connection`, `_lost` (set when the connection is), `_task`, `is_polling`.

    Args:
        dsn: where to connect to; None where it is known that nothing can be heard.
        where: names that in logs.
        channels: to listen on.
        heard: called with each text that is notified.
        look: looks for what was missed; raises nothing.
        timeout: seconds that connecting may take.
        check_every: seconds after which a silent connection is tried.
    """

    def __init__(
        self,
        dsn: str | None,
        *,
        where: str,
        channels: Sequence[str],
        heard: Callable[[str], None],
        look: Callable[[], Awaitable[None]],
        timeout: float,
        check_every: float,
    ) -> None:
        self._dsn = dsn
        self._where = where
        self._channels = channels
        self._heard = heard
        self._look = look
        self._timeout = timeout
        self._check_every = check_every
        self._connection: Listening | None = None
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.is_polling: bool = dsn is None

    async def open(self) -> None:
        """Listen from now on.

        Raises:
            PostgresqlError: it can not be connected.
        """
        if not self.is_polling:
            await self._connect()
        if self.is_polling:
            logger.warning("lanes_poll engine=%s every=%gs reason=%s", self._where, POLL, "no connection can listen")
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Listen no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=TO_CLOSE)
            except Exception:  # noqa: BLE001  it is lost already
                _terminate(connection)

    def forget(self) -> None:
        """Close the socket, where the loop is closed."""
        connection, self._connection, self._task = self._connection, None, None
        if connection is not None:
            _terminate(connection)

    async def _run(self) -> None:
        pause = POLL
        while True:
            if self._connection is not None:
                pause = POLL
                await self._stay()
                continue
            await asyncio.sleep(pause)
            if not self.is_polling:
                try:
                    await self._connect()
                except PostgresqlError as error:
                    logger.info("lanes_not_heard engine=%s: %s", self._where, error)
                    pause = min(2 * pause, LONGEST_PAUSE)
            await self._look()

    async def _stay(self) -> None:
        """Return when the connection is lost; what is notified while it listens is heard by then."""
        connection = self._connection
        while connection is not None and not self._lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._check_every):
                    await self._lost.wait()
                    break
            try:
                async with asyncio.timeout(self._timeout):
                    with driving():
                        await connection.execute("SELECT 1")
            except (PostgresqlError, TimeoutError):
                break
        logger.info("lanes_not_heard engine=%s: the connection that listens was lost", self._where)
        self._connection = None
        if connection is not None:
            _terminate(connection)
        with suppress(PostgresqlError):  # at once, for the first time
            await self._connect()
        await self._look()

    async def _connect(self) -> None:
        if self._dsn is None:
            return
        self._lost = lost = asyncio.Event()
        connection = await listening_to(self._dsn, timeout=self._timeout)
        try:
            if await is_proxied(connection):
                self.is_polling = True
                _terminate(connection)
                return
            connection.add_termination_listener(lambda _: lost.set())
            for channel in self._channels:
                with driving():
                    await connection.add_listener(channel, lambda _, __, ___, text: self._heard(text))
        except BaseException:
            _terminate(connection)
            raise
        self._connection = connection


def _terminate(connection: Listening) -> None:
    with suppress(Exception):
        connection.terminate()
