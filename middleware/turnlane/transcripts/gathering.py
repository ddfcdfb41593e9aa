"""What is looked at in a thread: everything that has changed, everything at all, and long files."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from turnlane.transcripts.glance import READ_WHOLE, TooLong
from turnlane.transcripts.listing import differing
from turnlane.transcripts.looker import Looker
from turnlane.transcripts.pacing import Pace, Stopped
from turnlane.transcripts.sight import Sight
from turnlane.transcripts.working import to_its_end

__all__ = ("BATCH", "Gatherer", "Taken")

BATCH = 64  # looks of an audit that are taken in together

_T = TypeVar("_T")
Taken = tuple[str, Sight | None, Sight]
"""A path, the last look at it when this one began, and this one."""


class Gatherer:
    """Takes looks in a thread; nothing of what it finds is kept here.

    Args:
        looker: looks.
        directory: where the transcripts are.
        recursive: and below it.
        stop: set when it is to end; then `Stopped` is raised.
    """

    __slots__ = ("_directory", "_limiter", "_looker", "_recursive", "_stop")

    def __init__(self, looker: Looker, directory: str, *, recursive: bool, stop: threading.Event) -> None:
        self._looker = looker
        self._directory = directory
        self._recursive = recursive
        self._stop = stop
        # For a scan, an audit and a long look, apart from what others run in threads.
        self._limiter = CapacityLimiter(3)

    async def scan(self, known: dict[str, Sight]) -> tuple[list[Taken], list[str]]:
        """Look at what is not as it was when it was looked at last; return that, and what is too long to be read now.

        Raises:
            OSError: the directory could not be listed.
        """
        return await self._in_thread(partial(self._scan, known))

    async def audit(self, known: dict[str, Sight], paths: list[str], pace: Pace) -> tuple[list[Taken], list[str]]:
        """Read some files, until one of them is not what it should be; return what was found, and the rest of them."""
        return await self._in_thread(partial(self._audit, known, paths, pace))

    async def look(self, path: str, before: Sight | None, *, insist: bool) -> Sight:
        """Look at a file of any length."""
        return await self._in_thread(partial(self._looker.look, path, before, insist=insist, rest=self._go_on))

    async def _in_thread(self, job: Callable[[], _T]) -> _T:
        return await to_its_end(asyncio.ensure_future(to_thread.run_sync(job, limiter=self._limiter)))

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _scan(self, known: dict[str, Sight]) -> tuple[list[Taken], list[str]]:
        # A copy, made in one step: the event loop goes on changing it.
        then = known.copy()
        fingerprints = {path: sight.fingerprint for path, sight in then.items()}
        paths = differing(self._directory, fingerprints, recursive=self._recursive)
        paths.update(dict.fromkeys(path for path, sight in then.items() if self._is_settled(path, sight)))
        found: list[Taken] = []
        long: list[str] = []
        for path in paths:
            self._go_on()
            before = known.get(path)
            try:
                found.append((path, before, self._looker.look(path, before, limit=READ_WHOLE)))
            except TooLong:
                long.append(path)
        return found, long

    def _is_settled(self, path: str, sight: Sight) -> bool:
        return sight.kind is not None and self._looker.may_be_settled(path, sight)

    def _audit(self, known: dict[str, Sight], paths: list[str], pace: Pace) -> tuple[list[Taken], list[str]]:
        found: list[Taken] = []
        pace.begin()
        for number, path in enumerate(paths, 1):
            before = known.get(path)
            sight = self._looker.look(path, before, thorough=True, rest=pace.rest)
            pace.rest()
            found.append((path, before, sight))
            if number == BATCH or sight.kind is not None:
                return found, paths[number:]
        return found, []
