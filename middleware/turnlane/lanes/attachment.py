"""The engine of shared lanes as one process uses it: opened at the first step, asked in order, closed at the end."""

import asyncio
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from turnlane import errors
from turnlane.begun import Begun
from turnlane.engines.base import Engine, Tell
from turnlane.lanes.errands import Errands
from turnlane.lanes.renewal import Renewal, Renewed

__all__ = ("Attachment", "Failure", "Step", "Then")

logger: logging.Logger = logging.getLogger("turnlane.lanes")

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
QUIET = 10.0  # seconds between two lines in the log that say the same
LAST_ERRANDS = 5.0  # seconds that closing waits for what is on its way

Failure = errors.EngineUnavailable | errors.OutcomeUnknown
Step = Callable[[Engine], Awaitable[object]]
Then = Callable[[Any], None]


class Attachment:
    """One worker of an engine. It is another one after a fork, in another event loop, or when it was closed.

    Mutable: all but the arguments.

    Args:
        make_engine: makes one that is not open.
        of: whose turns are renewed.
        tell: called with the notes of the engine.
        monotonic: tells the seconds.
    """

    def __init__(
        self, make_engine: Callable[[], Engine], *, of: Renewed, tell: Tell, monotonic: Callable[[], float]
    ) -> None:
        self._make_engine = make_engine
        self._of = of
        self._tell = tell
        self._monotonic = monotonic
        self._engine: Engine | None = None
        self._errands: Errands | None = None
        self._renewal: Renewal | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._opening = asyncio.Lock()
        self._is_open = False
        self._warned: float | None = None
        self._closing: set[asyncio.Future[None]] = set()  # engines of other loops
        self.worker: str = ""

    @property
    def engine(self) -> Engine:
        """The engine, which may not be open yet."""
        if self._engine is None:
            self._engine = self._make_engine()
        return self._engine

    @property
    def secret(self) -> bytes:
        """What the processes of the engine share and nobody else knows; empty where it is not open, or has none."""
        return b"" if self._engine is None else self._engine.secret

    def attach(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Be the worker of this process in a loop; tell whether it is a new one.

        Raises:
            NotConfigured: it is open in another loop.
        """
        if self._errands is not None and self._loop is loop and self._pid == os.getpid():
            return False
        if self._errands is not None and self._engine is not None:
            if self._is_in_use_elsewhere(self._errands):
                raise errors.NotConfigured("these lanes are open in another event loop; close them there first")
            self._let_go_elsewhere(self._engine, self._elsewhere())
            self._engine = None
        self._loop, self._pid = loop, os.getpid()
        self._opening, self._is_open = asyncio.Lock(), False
        self.worker = secrets.token_hex(8)
        self._errands = Errands(loop, immediate=self.engine.immediate)
        self._renewal = Renewal(self.engine, self._of, self._monotonic)
        return True

    def _elsewhere(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop of this process the engine is open in, if that was not closed."""
        is_open = self._pid == os.getpid() and self._loop is not None and not self._loop.is_closed()
        return self._loop if is_open else None

    def _is_in_use_elsewhere(self, errands: Errands) -> bool:
        return self._elsewhere() is not None and (bool(self._of.standings) or not errands.idle)

    def _let_go_elsewhere(self, engine: Engine, loop: asyncio.AbstractEventLoop | None) -> None:
        """Close an engine in the loop it is open in, which may run in another thread; None where there is none."""
        if self._renewal is not None:
            self._renewal.forget()

        def close() -> None:
            task = asyncio.ensure_future(engine.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

        if loop is not None and loop.is_running():
            with suppress(RuntimeError):  # it was closed just now
                loop.call_soon_threadsafe(close)
                return
        engine.forget()

    def renew_from_now_on(self) -> None:
        """Say to the engine, as long as there are turns, that they are alive."""
        if self._renewal is not None and self._loop is not None:
            self._renewal.begin(self._loop)

    def ready(self, key: str, loop: asyncio.AbstractEventLoop | None) -> Engine | None:
        """Return the engine, if it is open, mostly answers at once, and no step of this lane is on its way."""
        errands = self._errands
        if errands is None or not self._is_open or not errands.is_free(key):
            return None
        return self._engine if self._loop is loop and self._pid == os.getpid() else None

    @property
    def is_late(self) -> bool:
        """Whether the leases of this worker may have ended: nothing has been renewed for too long."""
        return self._renewal is not None and self._renewal.is_late

    def may_have_ended(self, since: float) -> bool:
        """Tell whether a lease may have ended that began with a step asked for at that moment."""
        return self._renewal is not None and self._renewal.may_have_ended(since)

    def ask(
        self,
        key: str,
        operation: str,
        step: Step,
        then: Then,
        *,
        patience: float,
        needed: Callable[[], bool] | None = None,
        begun: Begun | None = None,
        owed: bool = False,
    ) -> None:
        """Ask the engine for a step, behind those of the same key that are on their way.

        `begun` is how far it has come already, `owed` whether it is done also where the loop ends. Where the engine
        does not answer it is asked again, for `patience` seconds. `then` is called with what it said, with the error it
        ended with, which is `OutcomeUnknown` if any of them was, or with None where it was not `needed` any more. It
        must not raise.
        """

        def job() -> Coroutine[Any, Any, object]:
            nonlocal begun
            first, begun = begun, None  # if it is done again, it is from its beginning
            return self._asked(key, operation, step, patience, needed, first)

        if self._errands is not None:
            self._errands.run(key, job, then, owed=owed)

    async def _asked(
        self,
        key: str,
        operation: str,
        step: Step,
        patience: float,
        needed: Callable[[], bool] | None,
        begun: Begun | None,
    ) -> object:
        until, pause, unknown = 0.0, FIRST_PAUSE, None
        while begun is not None or needed is None or needed():
            try:
                if begun is not None:
                    first, begun = begun, None
                    return await first
                if not self._is_open:
                    await self._open()
                return await step(self.engine)
            except (errors.EngineUnavailable, errors.OutcomeUnknown) as error:
                now = self._monotonic()
                until = until or now + patience
                unknown = error if isinstance(error, errors.OutcomeUnknown) else unknown
                if now >= until:
                    self._warn(error, now)
                    return unknown or error
            except Exception as error:
                logger.exception("engine_broken where=%s", self.engine.where)
                broken = errors.EngineUnavailable(self.engine.where, operation=operation, reason=repr(error), key=key)
                broken.__cause__ = error
                return broken
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return None

    def _warn(self, failure: Failure, now: float) -> None:
        # Clients are not told why, and with each turn that is refused the log would say it once more.
        if self._warned is None or now - self._warned >= QUIET:
            self._warned = now
            logger.warning("engine_unavailable engine=%s: %s", self.engine.where, failure)

    async def _open(self) -> None:
        async with self._opening:
            if not self._is_open:
                await self.engine.open(self.worker, self._tell)
                self._is_open = True

    async def settled(self) -> None:
        """Wait until the engine was told what is on its way, some seconds at most."""
        if self._errands is not None:
            await self._errands.settled(LAST_ERRANDS)

    async def aclose(self) -> None:
        """Let what is on its way come to its end, and close the engine. Harmless to call again.

        Where a turn comes meanwhile, since the lanes were opened again, they stay open; and so they do where they are
        open in another event loop that has turns, or something on its way, which nobody here can wait for.
        """
        engine, errands, renewal = self._engine, self._errands, self._renewal
        if engine is not None and errands is not None and self._pid != os.getpid():  # they are those of the parent
            self._engine = self._errands = self._renewal = None
            self._is_open = False
            engine.forget()
            return
        if engine is not None and errands is not None and self._loop is not asyncio.get_running_loop():
            if not self._is_in_use_elsewhere(errands):
                self._let_go_elsewhere(engine, self._elsewhere())
                self._engine = self._errands = self._renewal = None
                self._is_open = False
            return
        if errands is not None:
            await errands.finish(LAST_ERRANDS, until=lambda: bool(self._of.standings))
        if engine is None or self._engine is not engine or self._of.standings:
            return
        self._engine = self._errands = self._renewal = None
        self._is_open = False
        if renewal is not None:
            await renewal.stop()
        await engine.aclose()
