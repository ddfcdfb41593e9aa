"""Owned writes that open nothing: one look at the record, one write."""

from turnlane.errors import TranscriptError
from turnlane.hooks import Hooks
from turnlane.transcripts.contract import Author, TranscriptStore, UnownedEdit
from turnlane.transcripts.locking import Lines, WriteLock
from turnlane.transcripts.takeover import rescue, takeover_of, tell_loss

__all__ = ("ShortWrites",)


class ShortWrites:
    """Appends and deletions of one `Transcripts`, each under a lock of its own.

    Args:
        store: where the transcripts are.
        lines: who waits for their locks.
        lock_timeout: seconds to wait for one.
        hooks: whom to tell.
    """

    def __init__(self, store: TranscriptStore, lines: Lines, lock_timeout: float, hooks: Hooks) -> None:
        self._store = store
        self._lines = lines
        self._lock_timeout = lock_timeout
        self._hooks = hooks

    async def delete(self, session_id: str, author: Author, *, at: float) -> None:
        """Take a transcript away; `at` is when, in seconds since the epoch."""
        handle = await self._store.attach(session_id)
        lock = WriteLock(self._lines, session_id, handle, self._lock_timeout)
        try:
            await lock.take()
            await handle.delete(author, at=at)
        finally:
            await lock.let_go()
            await handle.aclose()

    async def append(self, session_id: str, lines: tuple[bytes, ...], author: Author) -> None:
        """Store lines, or salvage them."""
        try:
            handle = await self._store.attach(session_id)
            lock = WriteLock(self._lines, session_id, handle, self._lock_timeout)
            try:
                await lock.take()
                await handle.join(author)
                tell_loss(self._hooks, handle, session_id, author)
                await handle.append(lines, author)
            except UnownedEdit as edit:
                error = takeover_of(edit.finding, handle, author, phase="append")
                salvaged = await rescue(self._store, session_id, lines, author, reason=error)
                raise takeover_of(edit.finding, handle, author, phase="append", salvaged=salvaged) from None
            finally:
                await lock.let_go()
                await handle.aclose()
        except TranscriptError as error:
            if getattr(error, "kind", None) is None:
                salvaged = await rescue(self._store, session_id, lines, author, reason=error)
                if salvaged:
                    error.add_note(f"what was to be stored is in {salvaged}")
            raise
