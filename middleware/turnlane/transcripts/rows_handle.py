"""What one opener of a transcript in a database does, whichever database it is."""

import asyncio
import os
from abc import abstractmethod
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from turnlane.errors import TranscriptUnavailable
from turnlane.transcripts.contract import Author, Changes, Fence, Keep, TranscriptHandle
from turnlane.transcripts.finding import Finding
from turnlane.transcripts.record import State
from turnlane.transcripts.working import to_its_end

__all__ = ("RowsHandle",)

_T = TypeVar("_T")


class RowsHandle(TranscriptHandle):
    """See `TranscriptHandle`. It belongs to the event loop and the process it was made in.

    What is begun runs to its end, also if it is cancelled meanwhile: what was written moves the fence.

    Mutable: `_fence`, `_closed`.

    Args:
        path: names the transcript in errors.
        traces: whether the rows say which turn has written them.
    """

    def __init__(self, path: str, *, traces: bool) -> None:
        self.path: str = path
        self._traces = traces
        self._fence = Fence(0, State())
        self._closed = False
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{type(self).__name__} {self.path} {state} version={self._fence.version}>"

    @property
    def fence(self) -> Fence:
        """What was proven last."""
        return self._fence

    async def load(self, author: Author, *, adopt: bool) -> tuple[list[dict[str, Any]], Finding | None]:
        """Read all rows and hold them against what is owned."""
        return await self._finish("open it", self._load(author, adopt=adopt))

    async def join(self, author: Author) -> None:
        """Take what is owned for the fence, where the last entry is the owned one."""
        await self._finish("open it", self._join(author))

    async def prove(self, author: Author, *, content: bool) -> Changes:
        """Prove that nothing but owned writes happened since the fence."""
        return await self._finish("check it", self._prove(author, content=content))

    async def append(self, lines: Sequence[bytes], author: Author) -> None:
        """Append in one transaction, which checks the version, the digest and the token."""
        await self._finish("append to it", self._append(tuple(lines), author))

    async def rollback(self, to: Fence, author: Author, *, keep: Keep) -> tuple[bytes, ...]:
        """Take rows away in one transaction, which checks again what was kept."""
        return await self._finish("go back in it", self._rollback(to, author, keep))

    async def take_out(self, turn: str, author: Author, *, keep: Keep) -> tuple[bytes, ...]:
        """Take its rows away in one transaction, which checks again what was kept."""
        if not self._traces:
            return await super().take_out(turn, author, keep=keep)
        return await self._finish("roll a turn back", self._take_out(turn, author, keep))

    async def delete(self, author: Author, *, at: float) -> None:
        """Begin another life: what the old one holds is a tombstone from then on."""
        await self._finish("delete it", self._delete(author, at))

    @abstractmethod
    async def _load(self, author: Author, *, adopt: bool) -> tuple[list[dict[str, Any]], Finding | None]: ...

    @abstractmethod
    async def _join(self, author: Author) -> None: ...

    @abstractmethod
    async def _prove(self, author: Author, *, content: bool) -> Changes: ...

    @abstractmethod
    async def _append(self, lines: tuple[bytes, ...], author: Author) -> None: ...

    @abstractmethod
    async def _rollback(self, to: Fence, author: Author, keep: Keep) -> tuple[bytes, ...]: ...

    @abstractmethod
    async def _take_out(self, turn: str, author: Author, keep: Keep) -> tuple[bytes, ...]: ...

    @abstractmethod
    async def _delete(self, author: Author, at: float) -> None: ...

    async def _settle(self, operation: str) -> None:
        """Find out what is to be known before anything is begun."""

    async def _finish(self, operation: str, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            self._require_usable(operation)
            await self._settle(operation)
        except BaseException:
            work.close()
            raise
        return await to_its_end(asyncio.ensure_future(work))

    def _require_usable(self, operation: str) -> None:
        reason = ""
        if self._pid != os.getpid():
            reason = "it was opened before this process was forked; open it after the fork"
        elif self._loop is not asyncio.get_running_loop():
            reason = "it was opened in another event loop; open it in the one that uses it"
        elif self._closed:
            reason = "it is closed"
        if reason:
            raise TranscriptUnavailable(self.path, operation=operation, reason=reason)
