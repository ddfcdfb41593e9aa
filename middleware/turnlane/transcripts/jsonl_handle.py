"""One opener of one JSONL transcript."""

import asyncio
import os
import random
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from turnlane.clock import Clock
from turnlane.errors import TranscriptBusy, TranscriptUnavailable
from turnlane.transcripts.contract import Author, Changes, Fence, Keep, Loss, TranscriptHandle
from turnlane.transcripts.fenced_file import FencedFile
from turnlane.transcripts.finding import Finding
from turnlane.transcripts.layout import Paths
from turnlane.transcripts.owned_file import OwnedFile, WriteFailed
from turnlane.transcripts.traced_file import TracedFile
from turnlane.transcripts.traces import Traces
from turnlane.transcripts.working import INLINE_BYTES, work

__all__ = ("JsonlHandle",)

FIRST_PAUSE = 0.001
LONGEST_PAUSE = 0.01


class JsonlHandle(TranscriptHandle):
    """See `TranscriptHandle`. What is short runs on the event loop, the rest in a thread.

    Mutable: `_fenced` (what was proven), `_locked`, `_closed`.

    Args:
        file: the file and its journal.
        paths: of the files it has.
        clock: measures how long the lock is waited for.
        verify_up_to: bytes up to which `prove(content=True)` compares the content; None for any size.
        remedy: the command that settles an unowned edit.
        traces: where turns are noted; None for nowhere.
    """

    def __init__(
        self,
        file: OwnedFile,
        paths: Paths,
        *,
        clock: Clock,
        verify_up_to: int | None,
        remedy: str,
        traces: Traces | None,
    ) -> None:
        self.path: str = file.path
        self.remedy: str = remedy
        self._paths = paths
        self._file = file
        self._traced = None if traces is None else TracedFile(file, traces)
        self._fenced = self._traced or FencedFile(file)
        self._clock = clock
        self._verify_up_to = verify_up_to
        self._locked = False
        self._closed = False
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<JsonlHandle {self.path} {'locked' if self._locked else 'not locked'} version={self.fence.version}>"

    @property
    def fence(self) -> Fence:
        """What was proven last."""
        return self._fenced.fence

    def take_loss(self) -> Loss | None:
        """Return what a power loss took, once."""
        loss, self._fenced.loss = self._fenced.loss, None
        return loss

    async def lock(self, timeout: float) -> None:
        """Take the kernel's lock on the journal. It is only ever tried: no thread waits in it."""
        deadline, pause = self._clock.monotonic() + timeout, FIRST_PAUSE
        with self._translated("lock it"):
            while not self._file.journal.try_lock():
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    raise TranscriptBusy(self.path, lock_timeout=timeout)
                await asyncio.sleep(min(pause * random.uniform(0.5, 1), left))  # noqa: S311  no secret
                pause = min(2 * pause, LONGEST_PAUSE)
            self._locked = self._fenced.stale = True
            self._require_journal()

    async def unlock(self) -> None:
        """Let the lock go."""
        self.unlock_nowait()

    async def aclose(self) -> None:
        """Close both files, which lets the lock go."""
        if not self._closed:
            await self.unlock()
            self._closed = True
            self._file.close()

    async def load(self, author: Author, *, adopt: bool) -> tuple[list[dict[str, Any]], Finding | None]:
        """Read the file and hold it against the journal."""
        with self._translated("open it"):
            return await work(partial(self._fenced.load, author, adopt=adopt), size=self._size())

    async def join(self, author: Author) -> None:
        """Take the record for the fence, where the fingerprint is the owned one."""
        with self._translated("open it"):
            quick = self._fenced.reload() and self._file.is_unchanged(settled=False)
            await work(partial(self._fenced.join, author), size=0 if quick else self._size())

    async def prove(self, author: Author, *, content: bool) -> Changes:
        """Prove that nothing but owned writes happened since the fence."""
        fenced = self._fenced
        with self._translated("check it"):
            quick = fenced.reload()
            bound = self._verify_up_to
            thorough = bound is None or (content and fenced.record.state.length <= bound)
            if not thorough and quick and fenced.is_as_it_was(settled=content):
                fenced.require_token(author)
                return Changes()
            job = partial(fenced.prove, author, thorough=thorough, settled=content)
            return await work(job, size=self._size())

    async def settle(self) -> None:
        """Settle a write that whoever had the lock before did not end, and nothing else. Needs the lock."""
        with self._translated("settle it"):
            await work(self._fenced.settle, size=self._size())

    async def append(self, lines: Sequence[bytes], author: Author) -> None:
        """Append to the file, with an intent before and a record after it."""
        with self._translated("append to it"):
            await work(partial(self._fenced.append, lines, author), size=self._cost(lines))

    def append_nowait(self, lines: Sequence[bytes], author: Author) -> bool:
        """Do the same at once, where the fingerprint is the owned one and the write is short."""
        if self._cost(lines) > INLINE_BYTES or self._verify_up_to is None:
            return False
        with self._translated("append to it"):
            try:
                if not (self._fenced.reload() and self._fenced.is_as_it_was(settled=False)):
                    return False
            except OSError:
                return False  # found again, and told of, by what waits
            self._fenced.append(lines, author)
        return True

    def _cost(self, lines: Sequence[bytes]) -> int:
        return INLINE_BYTES + 1 if self._file.sync else sum(map(len, lines))

    async def rollback(self, to: Fence, author: Author, *, keep: Keep) -> tuple[bytes, ...]:
        """Cut the file off where it ended at an earlier fence."""
        with self._translated("go back in it"):
            lines = await work(partial(self._fenced.behind, to, author), size=self._size())
            if lines:
                await keep(lines)
            await work(partial(self._fenced.cut_back, to, author), size=self._size())
        return lines

    async def take_out(self, turn: str, author: Author, *, keep: Keep) -> tuple[bytes, ...]:
        """Cut its lines off where nobody has written behind them; else put a file without them in the place of this."""
        traced = self._traced
        if traced is None:
            return await super().take_out(turn, author, keep=keep)
        with self._translated("roll a turn back"):
            lines = await work(partial(traced.written_by, turn, author), size=self._size())
            if lines:
                await keep(lines)
            await work(partial(traced.take_out, turn, author), size=self._size())
        return lines

    async def delete(self, author: Author, *, at: float) -> None:
        """Give the file the name of a tombstone; the journal stays."""
        with self._translated("delete it"):
            job = partial(self._fenced.delete, author, tombstone=self._paths.tombstone(at))
            await work(job, size=self._size())

    # -- third parties that write the file themselves

    def try_lock(self) -> bool:
        """Take the lock if nobody has it."""
        with self._translated("lock it"):
            self._locked = self._file.journal.try_lock()
            self._fenced.stale = self._fenced.stale or self._locked
            if self._locked:
                self._require_journal()
        return self._locked

    def unlock_nowait(self) -> None:
        """Let the lock go."""
        if self._locked and not self._closed:
            self._locked = False
            if self._pid == os.getpid():  # a forked child shares the lock, and would let its parent's go
                self._file.journal.unlock()

    def witness(self, author: Author) -> tuple[Changes, bytes]:
        """Prove by content, whatever its size."""
        with self._translated("check it"):
            return self._fenced.witness(author)

    def accept(
        self, author: Author, before: bytes, approves: Callable[[str], bool], rewrite: bool
    ) -> list[dict[str, Any]] | None:
        """Read what is there now, and own it if it is approved."""
        with self._translated("check it"):
            return self._fenced.accept(author, before, approves, rewrite)

    # -- small things

    def _size(self) -> int:
        """How many bytes may have to be read; where that can not be told, few: what reads them says why.

        What may wait for the disk counts as many.
        """
        if self._file.sync:
            return INLINE_BYTES + 1
        try:
            fingerprint = self._file.fingerprint()
        except OSError:
            return 0
        return 0 if fingerprint is None else fingerprint.size

    def _require_journal(self) -> None:
        if not self._file.journal.is_current():
            self.unlock_nowait()
            reason = "its journal was removed or replaced"
            raise TranscriptUnavailable(self.path, operation="lock it", reason=reason)

    @contextmanager
    def _translated(self, operation: str) -> Generator[None, None, None]:
        if self._pid != os.getpid():
            reason = "it was opened before this process was forked; open it after the fork"
            raise TranscriptUnavailable(self.path, operation=operation, reason=reason)
        if self._closed:
            raise TranscriptUnavailable(self.path, operation=operation, reason="it is closed")
        try:
            yield
        except WriteFailed as error:
            raise TranscriptUnavailable(self.path, operation=operation, reason=str(error)) from error
        except OSError as error:
            if isinstance(error, TranscriptBusy | TranscriptUnavailable):
                raise
            reason = error.strerror or str(error)
            raise TranscriptUnavailable(self.path, operation=operation, reason=reason) from error
