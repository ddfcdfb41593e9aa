"""The contract of session stores."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Self

from turnlane.sessions.entry import SessionEntry

__all__ = ("Change", "Reservation", "SessionStore")

Change = Callable[[SessionEntry], SessionEntry]
"""A pure function of the fresh entry. What it raises undoes the transaction and reaches the caller as it is."""


class Reservation(NamedTuple):
    """What `SessionStore.reserve` did: the entry that is stored now, and whether this call put it there."""

    entry: SessionEntry
    won: bool


class SessionStore(ABC):
    """Where session entries live. `turnlane.testing.session_store_suite` checks an implementation against this.

    Every method but `open` and `aclose` is atomic: it happens wholly or not at all, in one order for all callers of
    all processes, and whoever reads afterwards sees it. No method blocks the event loop or waits without a bound.
    A store is used from several event loops one after the other and keeps nothing that belongs to one of them.
    Trouble is `SessionStoreUnavailable` or `SessionCorrupt`, never a driver's error.

    Whether keys and ids are acceptable is checked by `Sessions`; a store takes any text of up to 512 bytes.
    """

    waits: ClassVar[bool] = True
    """False promises that no method ever suspends, so that a cancellation can not arrive inside one."""

    where: str
    """Names the store in errors and logs; must hold no password."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    @abstractmethod
    async def open(self) -> None:
        """Make the store usable. Calling it again, also at the same time, is harmless.

        Raises:
            SessionStoreUnavailable: the store is not there, not a store, or of a newer version.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Finish what has begun and let everything go. Harmless to call again; `open` opens it anew."""

    @abstractmethod
    async def read(self, key: str) -> SessionEntry | None:
        """Return the entry of `key`. Takes no lock another process could hold, writes nothing."""

    @abstractmethod
    async def read_by_id(self, session_id: str) -> SessionEntry | None:
        """Return the entry whose session id is `session_id` now. Takes no lock, writes nothing."""

    @abstractmethod
    async def reserve(self, key: str, session_id: str, *, at: float, replaces: SessionEntry | None) -> Reservation:
        """Bind `key` to a new session id unless somebody was faster: insert-if-absent and compare-and-set in one.

        Wins if there is no entry, or if there is one whose `id` and `last_activity_at` are those of `replaces`.
        The winner stores `entry.minted` (version above every version of deleted entries) or `entry.rebound` of the
        *stored* entry, so that fields patched meanwhile stay. The loser changes nothing and gets what is there.

        Args:
            key: the session key.
            session_id: the new id, never used before.
            at: when, in seconds since the epoch.
            replaces: the stale entry as it was read, None if there was none.
        """

    @abstractmethod
    async def mutate(self, key: str, change: Change) -> SessionEntry | None:
        """Store what `change` makes of the fresh entry of `key`, and return it; None if there is no entry.

        `change` may be called more than once, and in another thread; the result of its last call is stored. If that
        is the very entry it was given, nothing is written.
        """

    @abstractmethod
    async def touch(self, key: str, *, at: float) -> None:
        """Set `last_activity_at` to `at` if that is later, and nothing else; do nothing if there is no entry."""

    @abstractmethod
    async def delete(self, key: str) -> bool:
        """Remove the entry of `key` and tell whether there was one, also if it can not be read."""

    @abstractmethod
    async def list(self, prefix: str, limit: int) -> tuple[SessionEntry, ...]:
        """Return at most `limit` entries whose key starts with `prefix`, ordered by the code points of the key."""
