"""One opener of one transcript in a database."""

import asyncio
import os
import random
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from turnlane.clock import Clock
from turnlane.errors import StaleTurn, TranscriptBusy, TranscriptUnavailable
from turnlane.sqlite import ConnectionThread
from turnlane.transcripts.contract import Author, Changes, Fence, Keep
from turnlane.transcripts.finding import Finding
from turnlane.transcripts.rows import Loaded, Proof
from turnlane.transcripts.rows_handle import RowsHandle
from turnlane.transcripts.sqlite_lock import LockFile
from turnlane.transcripts.sqlite_marks import Mark, Marks
from turnlane.transcripts.sqlite_owned import OwnedRows
from turnlane.transcripts.sqlite_traced import TracedRows

__all__ = ("SqliteHandle",)

FIRST_PAUSE = 0.001
LONGEST_PAUSE = 0.01
NOTHING = -1


class SqliteHandle(RowsHandle):
    """See `RowsHandle`.

    Args:
        rows: the transcript in the tables.
        path: names it in errors.
        writer: the connection that writes, and looks.
        reader: the connection on which much is read.
        marks: since when nobody else has committed.
        lock: the kernel's lock; None where there is none, on Windows.
        clock: measures how long the lock is waited for.
        verify_up_to: bytes up to which `prove(content=True)` compares the content; None for any size, always.
    """

    def __init__(
        self,
        rows: OwnedRows,
        *,
        path: str,
        writer: ConnectionThread,
        reader: ConnectionThread,
        marks: Marks,
        lock: LockFile | None,
        clock: Clock,
        verify_up_to: int | None,
    ) -> None:
        super().__init__(path, traces=isinstance(rows, TracedRows))
        self._rows = rows
        self._writer = writer
        self._reader = reader
        self._marks = marks
        self._lock = lock
        self._clock = clock
        self._verify_up_to = verify_up_to

    async def lock(self, timeout: float) -> None:
        """Take the kernel's lock. It is only ever tried: no thread waits in it."""
        self._require_usable("lock it")
        deadline, pause = self._clock.monotonic() + timeout, FIRST_PAUSE
        with self._translated("lock it"):
            while not (self._lock is None or self._lock.try_lock()):
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    raise TranscriptBusy(self.path, lock_timeout=timeout)
                await asyncio.sleep(min(pause * random.uniform(0.5, 1), left))  # noqa: S311  no secret
                pause = min(2 * pause, LONGEST_PAUSE)

    async def unlock(self) -> None:
        """Let the lock go."""
        # A forked child shares the lock, and would let its parent's go.
        if self._lock is not None and self._pid == os.getpid():
            self._lock.unlock()

    async def aclose(self) -> None:
        """Close the lock file, which lets the lock go."""
        if not self._closed:
            await self.unlock()
            self._closed = True
            if self._lock is not None:
                self._lock.close()

    async def _load(self, author: Author, *, adopt: bool) -> tuple[list[dict[str, Any]], Finding | None]:
        look = await self._writer.run("open it", self.path, self._rows.look)
        job = partial(self._rows.load, author=author, adopt=adopt)
        loaded = await self._reader.run("open it", self.path, partial(job, write=False))
        if loaded is None:
            loaded = cast("Loaded", await self._writer.run("open it", self.path, partial(job, write=True)))
        self._fence = loaded.fence
        self._marks.put(self._rows.key, look.mark)
        return loaded.entries, loaded.finding

    async def _join(self, author: Author) -> None:
        look = await self._writer.run("open it", self.path, self._rows.look)
        job = partial(self._rows.join, author=author, bound=self._bound(look.mark))
        proof = await self._reader.run("open it", self.path, partial(job, write=False))
        if proof is None:
            proof = cast("Proof", await self._writer.run("open it", self.path, partial(job, write=True)))
        self._fence = proof.fence
        if proof.whole:
            self._marks.put(self._rows.key, look.mark)

    async def _prove(self, author: Author, *, content: bool) -> Changes:
        look = await self._writer.run("check it", self.path, self._rows.look)
        bound = self._bound(look.mark) if content or self._verify_up_to is None else NOTHING
        head = look.head
        if bound == NOTHING and head is not None and head.fence == self._fence and self._is_known(look.mark):
            if author.token is not None and author.token < head.token:
                raise StaleTurn(self.path, token=author.token, highest=head.token)
            return Changes()
        job = partial(self._rows.prove, fence=self._fence, author=author, bound=bound)
        proof = await self._reader.run("check it", self.path, job)
        self._fence = proof.fence
        if proof.whole:
            self._marks.put(self._rows.key, look.mark)
        return proof.changes

    async def _append(self, lines: tuple[bytes, ...], author: Author) -> None:
        job = partial(
            self._rows.append, fence=self._fence, lines=lines, author=author, trusted=self._marks.get(self._rows.key)
        )
        self._fence = await self._writer.run("append to it", self.path, job)

    async def _rollback(self, to: Fence, author: Author, keep: Keep) -> tuple[bytes, ...]:
        behind = partial(self._rows.behind, fence=self._fence, to=to, author=author)
        lines = await self._reader.run("go back in it", self.path, behind)
        if lines:
            await keep(lines)
            cut_back = partial(self._rows.cut_back, fence=self._fence, to=to, author=author)
            self._fence = await self._writer.run("go back in it", self.path, cut_back)
        return lines

    async def _take_out(self, turn: str, author: Author, keep: Keep) -> tuple[bytes, ...]:
        rows = cast("TracedRows", self._rows)
        written_by = partial(rows.written_by, fence=self._fence, turn=turn, author=author)
        lines = await self._reader.run("roll a turn back", self.path, written_by)
        if lines:
            await keep(lines)
        take_out = partial(rows.take_out, fence=self._fence, turn=turn, author=author)
        self._fence = await self._writer.run("roll a turn back", self.path, take_out)
        return lines

    async def _delete(self, author: Author, at: float) -> None:
        await self._writer.run("delete it", self.path, partial(self._rows.delete, author=author, at=at))

    # -- small things

    def _is_known(self, mark: Mark) -> bool:
        """Tell whether nobody else has committed anything since everything was read."""
        return self._marks.get(self._rows.key) == mark

    def _bound(self, mark: Mark) -> int | None:
        """Return up to how many bytes everything is to be read now."""
        return NOTHING if self._verify_up_to is not None and self._is_known(mark) else self._verify_up_to

    @contextmanager
    def _translated(self, operation: str) -> Generator[None, None, None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, TranscriptBusy | TranscriptUnavailable):
                raise
            reason = f"its lock file: {error.strerror or error}"
            raise TranscriptUnavailable(self.path, operation=operation, reason=reason) from error
