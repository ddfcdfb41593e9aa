"""The write lock of a transcript as one opener has it: first in line within the process, then against all others."""

import asyncio
from collections import deque

from turnlane.errors import TranscriptBusy
from turnlane.transcripts.contract import TranscriptHandle

__all__ = ("Lines", "WriteLock")

Place = tuple[asyncio.AbstractEventLoop, str]


class Lines:
    """The lines of one process, by event loop and session id; one lives only while somebody writes.

    Mutable: `_lines`, who waits behind the one who writes, first come first.
    """

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[Place, deque[asyncio.Future[None]]] = {}

    def enter_nowait(self, place: Place) -> bool:
        """Take the place at the head, if nobody has it."""
        if place in self._lines:
            return False
        self._lines[place] = deque()
        return True

    async def enter(self, place: Place) -> None:
        """Wait for the place at the head."""
        if self.enter_nowait(place):
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines[place].append(waiting)
        try:
            await waiting
        except BaseException:
            if waiting.done() and not waiting.cancelled():
                self.leave(place)  # it was handed over in the very moment
            raise

    def leave(self, place: Place) -> None:
        """Hand over to the next one."""
        line = self._lines[place]
        while line:
            waiting = line.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return
        del self._lines[place]


class WriteLock:
    """Takes and lets go of the write lock for one handle.

    Mutable: `held`.
    """

    __slots__ = ("_handle", "_lines", "_place", "held", "timeout")

    def __init__(self, lines: Lines, session_id: str, handle: TranscriptHandle, timeout: float) -> None:
        self._lines = lines
        self._place = (asyncio.get_running_loop(), session_id)
        self._handle = handle
        self.timeout: float = timeout
        self.held: bool = False

    async def take(self) -> None:
        """Take the lock.

        Raises:
            TranscriptBusy: others kept it for `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeout
        try:
            async with asyncio.timeout_at(deadline):
                await self._lines.enter(self._place)
        except TimeoutError as error:
            raise TranscriptBusy(self._handle.path, lock_timeout=self.timeout) from error
        try:
            await self._handle.lock(max(0.0, deadline - loop.time()))
        except TranscriptBusy as error:
            self._lines.leave(self._place)
            raise TranscriptBusy(self._handle.path, lock_timeout=self.timeout) from error
        except BaseException:
            self._lines.leave(self._place)
            raise
        self.held = True

    def take_nowait(self) -> None:
        """Take the lock at once.

        Raises:
            TranscriptBusy: somebody has it.
        """
        if self._lines.enter_nowait(self._place):
            try:
                self.held = self._handle.try_lock()
            finally:
                if not self.held:
                    self._lines.leave(self._place)
        if not self.held:
            raise TranscriptBusy(self._handle.path, lock_timeout=0.0)

    def let_go_nowait(self) -> None:
        """Let a lock of `take_nowait` go."""
        if self.held:
            self.held = False
            try:
                self._handle.unlock_nowait()
            finally:
                self._lines.leave(self._place)

    async def let_go(self) -> None:
        """Let the lock go, if it is held."""
        if self.held:
            self.held = False
            try:
                await self._handle.unlock()
            finally:
                self._lines.leave(self._place)
