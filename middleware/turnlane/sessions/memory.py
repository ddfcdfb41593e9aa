"""Session entries in this process: for tests, and for servers of one worker that may forget."""

import heapq
from typing import ClassVar

from turnlane.sessions.base import Change, Reservation, SessionStore
from turnlane.sessions.entry import SessionEntry, minted, rebound

__all__ = ("MemorySessionStore",)


class MemorySessionStore(SessionStore):
    """Keeps entries in dictionaries until the object goes; `aclose` forgets nothing.

    No method suspends, so every one is atomic among the tasks of one event loop. Not guaranteed: anything about
    loops that run in several threads at the same time, or about other processes.

    Mutable: `_entries` by key, `_keys` by session id (its exact inverse), `_floor`, the highest version deleted.
    """

    waits: ClassVar[bool] = False

    def __init__(self) -> None:
        self.where = "memory://"
        self._entries: dict[str, SessionEntry] = {}
        self._keys: dict[str, str] = {}
        self._floor = 0

    def __repr__(self) -> str:
        return f"<MemorySessionStore entries={len(self._entries)}>"

    async def open(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing: a server whose lifespan runs again finds its sessions."""

    async def read(self, key: str) -> SessionEntry | None:
        """Return the entry of `key`."""
        return self._entries.get(key)

    async def read_by_id(self, session_id: str) -> SessionEntry | None:
        """Return the entry whose session id is `session_id` now."""
        key = self._keys.get(session_id)
        return None if key is None else self._entries[key]

    async def reserve(self, key: str, session_id: str, *, at: float, replaces: SessionEntry | None) -> Reservation:
        """Bind `key` to a new session id unless somebody was faster."""
        found = self._entries.get(key)
        if found is None:
            return Reservation(self._put(minted(key, session_id, at=at, version=self._floor + 1)), True)
        if replaces is None or (found.id, found.last_activity_at) != (replaces.id, replaces.last_activity_at):
            return Reservation(found, False)
        return Reservation(self._put(rebound(found, session_id, at=at)), True)

    async def mutate(self, key: str, change: Change) -> SessionEntry | None:
        """Store what `change` makes of the fresh entry of `key`, and return it."""
        found = self._entries.get(key)
        return None if found is None else self._put(change(found))

    async def touch(self, key: str, *, at: float) -> None:
        """Set `last_activity_at` to `at` if that is later."""
        found = self._entries.get(key)
        if found is not None and found.last_activity_at < at:
            self._put(found.active(at))

    async def delete(self, key: str) -> bool:
        """Remove the entry of `key` and tell whether there was one."""
        found = self._entries.pop(key, None)
        if found is None:
            return False
        del self._keys[found.id]
        self._floor = max(self._floor, found.version)
        return True

    async def list(self, prefix: str, limit: int) -> tuple[SessionEntry, ...]:
        """Return at most `limit` entries whose key starts with `prefix`, ordered by key."""
        keys = heapq.nsmallest(limit, (key for key in self._entries if key.startswith(prefix)))
        return tuple(self._entries[key] for key in keys)

    def _put(self, entry: SessionEntry) -> SessionEntry:
        before = self._entries.get(entry.key)
        if before is not None and before.id != entry.id:
            del self._keys[before.id]
        self._entries[entry.key] = entry
        self._keys[entry.id] = entry.key
        return entry
