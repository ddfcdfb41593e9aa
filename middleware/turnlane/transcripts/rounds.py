"""When a monitor looks: at each change it is told of, at all of them every now and then, and at every byte at times."""

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from turnlane.clock import Clock
from turnlane.transcripts.listing import transcript_named
from turnlane.transcripts.pacing import Pace, Stopped
from turnlane.transcripts.patrol import Patrol
from turnlane.transcripts.watching import Watcher, watching

__all__ = ("Rounds", "Schedule")

FIRST_SHARE = 0.25  # of a core, for the first audit
SHARE = 0.001  # of a core, for scans, and for later audits
BLIND_SHARE = 0.02  # for scans, while nobody tells of changes
LONGEST_PAUSE, LONGEST_BLIND_PAUSE = 120.0, 10.0
STILL_THERE = 1.0  # seconds between two looks whether the directory is still the same
THERE_YET = 0.25  # and whether there is one
TRY_AGAIN = 30  # times as long until it is tried again to be told of changes
AFTER_A_FAILURE = 1.0

logger: logging.Logger = logging.getLogger("turnlane.monitor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How often, in seconds: at least so long between two scans, and between the beginnings of two audits."""

    scan_every: float
    audit_every: float


class Rounds:
    """Keeps a patrol going.

    Mutable: `watching`, `scans`, `audits`, `ready`, `_real` (the directory without links), `_was_there`, `_took`
    (seconds of the last scan), `_failed` (what was told last that could not be done), `_new_below` (it is to scan).

    Args:
        patrol: what looks.
        directory: where.
        recursive: and below it.
        schedule: how often.
        watcher: tells of changes.
        clock: tells the time.
        stop: set when it is to end.
    """

    def __init__(
        self,
        patrol: Patrol,
        directory: str,
        *,
        recursive: bool,
        schedule: Schedule,
        watcher: Watcher,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self.watching: bool = False
        self.scans: int = 0
        self.audits: int = 0
        self.ready: asyncio.Event = asyncio.Event()
        self._patrol = patrol
        self._directory = directory
        self._recursive = recursive
        self._schedule = schedule
        self._watcher = watcher
        self._monotonic = clock.monotonic
        self._stop = stop
        self._real = directory
        self._took = 0.0
        self._failed = ""
        self._was_there = True
        self._new_below = asyncio.Event()

    async def run(self) -> None:
        """Go on until it is cancelled."""
        patrol = self._patrol
        async with asyncio.TaskGroup() as group:
            for work in (patrol.work, patrol.work_long, self._watch, self._scan_often, self._audit_often):
                group.create_task(self._steadily(work))

    async def scan(self) -> None:
        """Scan once."""
        began = self._monotonic()
        try:
            await self._patrol.scan()
            self._failed = ""
        except OSError as error:
            self._report("list it", error)
        self._took = self._monotonic() - began
        self.scans += 1

    async def audit(self, share: float) -> None:
        """Read everything once, with a share of a core."""
        await self._patrol.audit(Pace(share, self._stop, self._monotonic))
        self.audits += 1

    async def _steadily(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something over and over. A fault is logged and does not end it: whoever opened a monitor relies on it."""
        while True:
            try:
                await work()
            except Stopped:
                return
            except Exception:
                logger.exception("monitor_failed path=%s work=%s: it goes on", self._directory, work.__name__)
                await asyncio.sleep(AFTER_A_FAILURE)

    # -- being told of changes

    async def _watch(self) -> None:
        """Watch once, or wait a moment for the directory; `_steadily` does it again."""
        try:
            held = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            if not missing:
                self._report("watch it", error)
            if self._was_there or not missing:
                await self.scan()
            self._was_there = False
            self.ready.set()
            await asyncio.sleep(THERE_YET if missing else STILL_THERE)
            return
        self._was_there = True
        try:
            await self._while_there(held)
        finally:
            os.close(held)

    async def _while_there(self, held: int) -> None:
        """Watch while the directory is the one that is held open; its inode is not given to another one so long."""
        started = asyncio.Event()
        self._real = os.path.realpath(self._directory)  # noqa: ASYNC240  a few calls of lstat
        watch = asyncio.ensure_future(
            watching(
                self._watcher,
                self._real,
                recursive=self._recursive,
                changes=self._changed,
                started=started.set,
            )
        )
        starting = asyncio.ensure_future(started.wait())
        try:
            await asyncio.wait({watch, starting}, return_when=asyncio.FIRST_COMPLETED)
            self.watching = not watch.done()
            await self.scan()
            self.ready.set()
            while self._is_same(held) and not watch.done():
                await asyncio.wait({watch}, timeout=STILL_THERE)
            self.watching = False
            if watch.done() and not watch.cancelled():
                self._report("watch it", watch.exception() or RuntimeError("the watcher has ended"))
                await self._blind(held)
        finally:
            self.watching = False
            starting.cancel()
            watch.cancel()
            await asyncio.wait({watch, starting})

    async def _blind(self, held: int) -> None:
        """Live without being told of changes for a while."""
        for _ in range(TRY_AGAIN):
            if self._is_same(held):
                await asyncio.sleep(STILL_THERE)

    def _changed(self, paths: frozenset[str]) -> None:
        real = self._real
        for changed in paths:
            path = transcript_named(changed)
            if path is not None:
                inside = path.startswith(real + os.sep)
                self._patrol.ask(os.path.join(self._directory, path[len(real) + 1 :]) if inside else path)
            elif self._recursive and os.path.isdir(changed):
                self._new_below.set()

    def _is_same(self, held: int) -> bool:
        try:
            return os.path.samestat(os.stat(self._directory), os.fstat(held))
        except OSError:
            return False

    # -- without being told

    async def _scan_often(self) -> None:
        await self.ready.wait()
        while True:
            least, share, most = self._schedule.scan_every, SHARE, LONGEST_PAUSE
            if not self.watching:
                least, share, most = min(least, THERE_YET), BLIND_SHARE, LONGEST_BLIND_PAUSE
            pause = max(least, min(self._took / share, most))
            try:
                async with asyncio.timeout(pause):
                    await self._new_below.wait()
            except TimeoutError:
                pass
            self._new_below.clear()
            await self.scan()

    async def _audit_often(self) -> None:
        await self.ready.wait()
        share = FIRST_SHARE
        while True:
            began = self._monotonic()
            await self.audit(share)
            share = SHARE
            await asyncio.sleep(max(0.0, self._schedule.audit_every - (self._monotonic() - began)))

    def _report(self, operation: str, error: BaseException) -> None:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        if reason != self._failed:
            self._failed = reason
            logger.warning(
                "monitor_trouble path=%s operation=%s reason=%s: it goes on by scanning",
                self._directory,
                operation.replace(" ", "_"),
                reason,
            )
