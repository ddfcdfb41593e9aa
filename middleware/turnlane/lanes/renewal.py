"""The heartbeat of a worker: says that its turns are alive, and hears what was missed."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Protocol

from turnlane.engines.base import Alive, Engine, Note, Told
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

    def tell(self, note: Told) -> None:
        """Hear something."""
        ...

    def lose(self, standing: Standing) -> None:
        """Give a lane up for lost."""
        ...


class _Nobody:
    """Has no turns."""

    standings: Mapping[str, Standing] = MappingProxyType({})

    def tell(self, note: Told) -> None:
        """Hear nothing."""

    def lose(self, standing: Standing) -> None:
        """Lose nothing."""


class Renewal:
    """Renews all turns of a process together, three times in a lease, while there are any; oftener if that fails.

    A turn is given up for lost when its lease could not be renewed for two thirds of it: before another can have it,
    and however long the attempt takes that is on its way then. Whoever stood still so long that this is too late asks
    once more before: nobody may have come meanwhile.

    Mutable: `_of`, until `forget`; `_timer` and `_task`, of which there is one while turns are renewed; `_renewed`
    (when the last renewal that came through was begun), `_last_moment` (which rings when the turns are given up),
    `_stood_still` (since then).

    Args:
        engine: that is asked.
        of: whose turns they are.
        monotonic: tells the seconds.
    """

    __slots__ = (
        "_engine",
        "_last_moment",
        "_monotonic",
        "_of",
        "_pause",
        "_renewed",
        "_stood_still",
        "_sure",
        "_task",
        "_timer",
    )

    def __init__(self, engine: Engine, of: Renewed, monotonic: Callable[[], float]) -> None:
        self._engine = engine
        self._of: Renewed = of
        self._monotonic = monotonic
        self._pause = WITHOUT_LEASE if engine.lease is None else engine.lease / 3
        self._sure = math.inf if engine.lease is None else 2 * engine.lease / 3
        self._renewed = 0.0
        self._stood_still = False
        self._timer: asyncio.TimerHandle | None = None
        self._last_moment: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that turns are renewed from now on."""
        if self._timer is None and self._task is None:
            self._count_from(self._monotonic(), loop)
            self._timer = loop.call_later(self._pause, self._tick, loop)

    def may_have_ended(self, since: float) -> bool:
        """Tell whether a lease may have ended that was renewed last by a step begun at that moment."""
        return self._monotonic() - since >= self._sure

    @property
    def is_late(self) -> bool:
        """Whether leases may have ended: what was granted meanwhile may be another's by now."""
        return self.may_have_ended(self._renewed)

    def forget(self) -> None:
        """Renew no more, where others see to it from now on in another loop; the timers of this one find nothing."""
        self._of = _Nobody()

    async def stop(self) -> None:
        """Renew no more."""
        timer, task, self._timer, self._task = self._timer, self._task, None, None
        self._forget_last_moment()
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
        else:
            self._forget_last_moment()

    def _count_from(self, renewed: float, loop: asyncio.AbstractEventLoop) -> None:
        self._renewed = renewed
        self._forget_last_moment()
        if self._sure < math.inf:
            left = max(renewed + self._sure - self._monotonic(), 0.0)
            self._last_moment = loop.call_later(left, self._ring, loop)

    def _forget_last_moment(self) -> None:
        if self._last_moment is not None:
            self._last_moment.cancel()
            self._last_moment = None

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._monotonic() - self._renewed - self._sure < self._pause / 4:
            self._give_up()
            return
        self._stood_still = True
        if self._task is None:
            if self._timer is not None:
                self._timer.cancel()
            self._tick(loop)

    def _give_up(self) -> None:
        for standing in list(self._of.standings.values()):
            self._of.lose(standing)

    async def _renew_and_go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        came_through = await self._tried(self._pause / 4 if self._stood_still else self._pause)
        if self._stood_still and not came_through:
            came_through = await self._tried(self._pause / 4)
        self._stood_still = False
        if self.is_late:
            self._give_up()
        if self._task is asyncio.current_task():
            self._task = None
            self._timer = loop.call_later(self._pause if came_through else self._pause / 4, self._tick, loop)

    async def _tried(self, timeout: float) -> bool:
        try:
            await self.renew(timeout=timeout)
        except (EngineUnavailable, OutcomeUnknown, TimeoutError) as error:
            logger.warning("lanes_not_renewed engine=%s: %r", self._engine.where, error)
        except Exception:  # the next one may come through
            logger.exception("lanes_not_renewed engine=%s", self._engine.where)
        else:
            return True
        return False

    async def renew(self, *, timeout: float) -> None:
        """Renew all of them once."""
        begun = self._monotonic()
        alive = [
            Alive(standing.turn.key, ticket, standing.token, standing.number)
            for ticket, standing in self._of.standings.items()
            if standing.known or standing.granted is not None
        ]
        notes: list[Note] = []
        if alive:
            async with asyncio.timeout(timeout):
                notes = await self._engine.renew(alive)
        self._count_from(begun, asyncio.get_running_loop())
        for note in notes:
            self._of.tell(note)
