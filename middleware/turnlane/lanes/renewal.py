"""The heartbeat of a worker: says that its turns are alive, and hears what was missed."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from turnlane.engines.base import Alive, Engine, Note
from turnlane.errors import EngineUnavailable, OutcomeUnknown
from turnlane.lanes.standing import Standing

__all__ = ("Renewal", "Renewed")

logger: logging.Logger = logging.getLogger("turnlane.lanes")

WITHOUT_LEASE = 5.0  # seconds between two looks for what was missed, where no lease runs


class Renewed(Protocol):
    """Whose turns they are."""

    @property
    def standings(self) -> Mapping[str, Standing]:
        """By ticket."""
        ...

    def tell(self, note: Note) -> None:
        """Hear something."""
        ...

    def lose(self, standing: Standing) -> None:
        """Give a lane up for lost."""
        ...


class Renewal:
    """Renews all turns of a process together, three times in a lease, while there are any.

    A turn is given up for lost when its lease could not be renewed for two thirds of it: before another can have it.

    Mutable: `_timer` and `_task`, of which there is one while turns are renewed; `_renewed` (when the last renewal that
    came through was begun).

    Args:
        engine: that is asked.
        of: whose turns they are.
        monotonic: tells the seconds.
    """

    __slots__ = ("_engine", "_monotonic", "_of", "_pause", "_renewed", "_task", "_timer")

    def __init__(self, engine: Engine, of: Renewed, monotonic: Callable[[], float]) -> None:
        self._engine = engine
        self._of = of
        self._monotonic = monotonic
        self._pause = WITHOUT_LEASE if engine.lease is None else engine.lease / 3
        self._renewed = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that turns are renewed from now on."""
        if self._timer is None and self._task is None:
            self._renewed = self._monotonic()
            self._timer = loop.call_later(self._pause, self._tick, loop)

    async def stop(self) -> None:
        """Renew no more."""
        timer, task, self._timer, self._task = self._timer, self._task, None, None
        if timer is not None:
            timer.cancel()
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._of.standings:
            self._task = loop.create_task(self._renew_and_go_on(loop))

    async def _renew_and_go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            await self.renew(timeout=self._pause)
        except (EngineUnavailable, OutcomeUnknown, TimeoutError) as error:
            logger.warning("lanes_not_renewed engine=%s: %r", self._engine.where, error)
        except Exception:  # the next one may come through
            logger.exception("lanes_not_renewed engine=%s", self._engine.where)
        lease = self._engine.lease
        if lease is not None and self._monotonic() - self._renewed > 2 * lease / 3:
            for standing in list(self._of.standings.values()):
                self._of.lose(standing)
        if self._task is asyncio.current_task():
            self._task = None
            self._timer = loop.call_later(self._pause, self._tick, loop)

    async def renew(self, *, timeout: float) -> None:
        """Renew all of them once."""
        begun = self._monotonic()
        alive = [
            Alive(standing.turn.key, ticket, standing.turn.token, standing.number)
            for ticket, standing in self._of.standings.items()
            if standing.granted is not None or standing.number
        ]
        notes: list[Note] = []
        if alive:
            async with asyncio.timeout(timeout):
                notes = await self._engine.renew(alive)
        self._renewed = begun
        for note in notes:
            self._of.tell(note)
