"""The connection a worker hears its notes on."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from turnlane.redis import RedisClient
from turnlane.redis.wires import Wire, alive

__all__ = ("Subscription",)

logger: logging.Logger = logging.getLogger("turnlane.lanes")

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0


class Subscription:
    """One connection, made again after trouble; what was published meanwhile is missed.

    Mutable: `times` (how often it was made), `_wire` (None while there is none), `_quiet` (pings since something was
    heard), `_task` and `_timer`, None unless it is open.

    Args:
        client: that connects.
        channels: what to hear.
        heard: called with each channel and letter; must not raise.
        again: called when it was made again, before anything else is heard; must not raise.
        patience: seconds after which a silent connection is asked for a sign of life, and after which it is made again.
    """

    def __init__(
        self,
        client: RedisClient,
        channels: tuple[str, ...],
        *,
        heard: Callable[[bytes, bytes], None],
        again: Callable[[], None],
        patience: float,
    ) -> None:
        self.times: int = 0
        self._client = client
        self._channels = channels
        self._heard = heard
        self._again = again
        self._patience = patience
        self._wire: Wire | None = None
        self._quiet = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Hear from now on. Raises what the first attempt to connect does."""
        loop = asyncio.get_running_loop()
        made: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._listen(made))
        try:
            await made
        except BaseException:
            await self.aclose()
            raise
        self._timer = loop.call_later(self._patience, self._look, loop)

    async def aclose(self) -> None:
        """Hear nothing any more."""
        timer, task, self._timer, self._task = self._timer, self._task, None, None
        if timer is not None:
            timer.cancel()
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _listen(self, made: "asyncio.Future[None]") -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._client.dedicated(self._channels[0]) as wire:
                    await self._subscribed(wire)
                    pause = FIRST_PAUSE
                    await self._read(wire, made)
            except Exception as error:  # noqa: BLE001  who hears nothing renews, and finds out
                if not made.done():
                    made.set_exception(error)
                    return
                logger.info("lane_notes_interrupted engine=%s: %r", self._client.where, error)
            finally:
                self._wire = None
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            with suppress(Exception):  # it finds out where the server is by now
                await self._client.about("PING", key=self._channels[0])

    async def _subscribed(self, wire: Wire) -> None:
        async with asyncio.timeout(self._patience):
            await alive(wire).send_command("SUBSCRIBE", *self._channels)
            for _ in self._channels:
                await wire.read_response()

    async def _read(self, wire: Wire, made: "asyncio.Future[None]") -> None:
        self._wire, self._quiet = wire, 0
        self.times += 1
        if made.done():
            self._again()
        else:
            made.set_result(None)
        while True:
            match cast("list[object]", await wire.read_response()):
                case [b"message", bytes(channel), bytes(letter)]:
                    self._heard(channel, letter)
                case _:
                    pass  # an answer to a ping
            self._quiet = 0

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        wire = self._wire
        self._timer = loop.call_later(self._patience, self._look, loop)
        if wire is not None:
            self._quiet += 1
            loop.create_task(self._ping(wire, is_dead=self._quiet > 2)).add_done_callback(_done)

    async def _ping(self, wire: Wire, *, is_dead: bool) -> None:
        if is_dead:
            await wire.disconnect(nowait=True)  # whoever reads from it finds it closed
        else:
            await alive(wire).send_command("PING")


def _done(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()  # whoever reads gets one too
