"""`Sessions`: one session id per session key, and the entry behind it."""

import os
import uuid
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

from turnlane.clock import Clock
from turnlane.errors import NotConfigured, SessionConflict
from turnlane.hooks import Hooks, SessionMinted
from turnlane.keys import MAX_KEY_BYTES
from turnlane.sessions._arguments import canonical_key, checked_count, checked_key, checked_version, store_for
from turnlane.sessions.base import Change, SessionStore
from turnlane.sessions.entry import Session, SessionEntry, rebound, unstored
from turnlane.sessions.freshness import Freshness
from turnlane.sessions.patches import Draft, Patch, operations_of
from turnlane.sessions.values import NOTHING
from turnlane.settled import settled

__all__ = ("Sessions",)

_T = TypeVar("_T")

EXPLICIT_ID_PREFIX = "session-id:"
MAX_EXPLICIT_ID_BYTES = MAX_KEY_BYTES - len(EXPLICIT_ID_PREFIX)


class Sessions:
    """One session id per session key, however many ask at once, in however many processes share the store.

    Opens at first use in the running loop, works in several loops one after the other, and can be used again after
    `aclose`. An operation that writes is finished before a cancellation of its caller is reported: the entry is then
    wholly as before or wholly changed. Fields belong to the key: they stay when its session id changes, until
    `delete`.

    Not guaranteed: that nobody else changed an entry since it was read (`expected_version=` and `edit` prove it), or
    that two processes agree on what is stale when their clocks do not. In a process forked after opening every
    operation raises `NotConfigured`.

    Args:
        store: `memory://`, `sqlite:///relative/file.db`, `sqlite:////absolute/file.db`,
            `postgresql://user:password@host/database`, `redis://host:port/database` (or `redis+sentinel://`,
            `redis+cluster://`), or a store. A store that is given is opened at first use but
            stays open: whoever made it closes it.
        freshness: when an entry is stale; None for never.
        hooks: who is told of `SessionMinted`.
        clock: replaces the machine's clock, in tests.

    Raises:
        ValueError: the URL is not understood.
        NotConfigured: the package that the URL needs is not installed.
    """

    # Mutable: _pid alone; the process that opened the store, None while it is not open.

    def __init__(
        self,
        store: str | SessionStore = "memory://",
        *,
        freshness: Freshness | None = None,
        hooks: Hooks | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(store, str | SessionStore):
            raise ValueError(f"a session store is a URL or a SessionStore, not {store!r}")
        if freshness is not None and not isinstance(freshness, Freshness):
            raise ValueError(f"freshness must be a Freshness or None, not {freshness!r}")
        self._owned = isinstance(store, str)
        self._store = store_for(store) if isinstance(store, str) else store
        self._freshness = freshness
        self.hooks: Hooks = hooks if hooks is not None else Hooks()
        self._wall_ns = (clock or Clock()).wall_ns
        self._pid: int | None = None

    def __repr__(self) -> str:
        return f"<Sessions {self._store.where} {'not open' if self._pid is None else 'open'}>"

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the store if it was made here. Harmless to call again, and in a forked child."""
        if self._pid == os.getpid():
            self._pid = None
            if self._owned:
                await self._written(self._store.aclose())

    async def resolve(self, key: str, *, visible: bool = True) -> Session:
        """Return the session of `key`; mint its id if there is none, or if the one there is stale.

        All who resolve a key at once get the same id, and `is_new` is true for exactly one of them; a row whose
        minter died before it was told is adopted by the next. A key with a fresh entry is one read: no lock, no
        write. Minting is finished before a cancellation is reported; the id then stays and the next caller adopts
        it.

        Not guaranteed: that the caller whose `is_new` was true lives to act on it.

        Args:
            key: a session key; it is brought into canonical form.
            visible: False leaves no trace: the fresh session if there is one, else a session with a new id that is
                not stored and that nobody is told of.

        Raises:
            ValueError: not a session key.
            SessionStoreUnavailable, SessionCorrupt: the store could not tell; nothing was minted.
            SessionOutcomeUnknown: an answer was lost; an id that was minted all the same is adopted by the next call.
        """
        key = canonical_key(key)
        await self._opened()
        found = await self._store.read(key)
        at = self._now()
        if found is not None and self._is_fresh(found, at):
            return Session.of(found)
        if not visible:
            return unstored(key, _new_id(), at=at, is_new=True)
        return await self._written(self._mint(key, found))

    async def resolve_id(self, session_id: str) -> Session:
        """Return the session whose id is `session_id`, fresh or not; nothing is minted or stored.

        If no entry has that id now, the session is not stored and its key is `session-id:` and the id.

        Raises:
            ValueError: not a session id: text of at most 501 bytes that is not empty.
        """
        checked_key(session_id, "session id", most=MAX_EXPLICIT_ID_BYTES)
        key = f"{EXPLICIT_ID_PREFIX}{session_id}"
        found = await self.find(session_id)
        return unstored(key, session_id, at=self._now(), is_new=False) if found is None else found

    async def find(self, session_id: str) -> Session | None:
        """Return the session whose id is `session_id` now, fresh or not. An id that was replaced is not found."""
        checked_key(session_id, "session id")
        await self._opened()
        found = await self._store.read_by_id(session_id)
        return None if found is None else Session.of(found)

    async def get(self, key: str) -> Session | None:
        """Return the session of `key`, fresh or not, or None. A pure read: nothing is minted."""
        key = canonical_key(key)
        await self._opened()
        found = await self._store.read(key)
        return None if found is None else Session.of(found)

    async def list(self, prefix: str = "", limit: int = 100) -> tuple[Session, ...]:
        """Return at most `limit` sessions whose key starts with `prefix`, fresh or not, ordered by key."""
        checked_count(limit, "limit")
        if prefix:
            checked_key(prefix, "prefix")
        await self._opened()
        return tuple(Session.of(entry) for entry in await self._store.list(prefix, limit))

    async def patch(self, key: str, changes: Mapping[str, object], *, expected_version: int | None = None) -> Session:
        """Change the named fields of the fresh entry, leave all others, and return what is stored now.

        `UNSET` leaves a field, `DELETE` removes it, None is a value like any other. If every field already is as
        wanted nothing is written and the version stays. A patch is not activity, does not mint, does not rebind the
        session, and never turns `updated_at` back.

        Args:
            key: a session key that has an entry.
            changes: JSON values by field name; copied before the first wait.
            expected_version: store only if the entry still has this version.

        Raises:
            ValueError: not a session key, a field that can not be patched, or a value that is not JSON.
            SessionConflict: there is no entry (`found_version` is None), or its version is another one.
        """
        key = canonical_key(key)
        operations = operations_of(changes)
        checked_version(expected_version)
        await self._opened()
        patch = Patch(operations=operations, pins=NOTHING, expected_version=expected_version, at=self._now())
        return await self._changed(key, patch, expected_version)

    @asynccontextmanager
    async def edit(self, key: str, *, expected_version: int | None = None) -> AsyncGenerator[Draft, None]:
        """Record changes in a draft and apply them, in order, to the fresh entry when the block ends.

        A block that raises stores nothing. What is stored is what `draft.session` then holds.

        Args:
            key: a session key that has an entry.
            expected_version: store only if the entry has this version, from here to the end of the block.

        Raises:
            ValueError: as for `patch`, at the line that assigns.
            SessionConflict: there is no entry, its version is not the expected one, or a field the draft has read
                is another one by now (`fields` names it).
        """
        key = canonical_key(key)
        checked_version(expected_version)
        await self._opened()
        found = await self._store.read(key)
        if found is None or (expected_version is not None and expected_version != found.version):
            raise SessionConflict(
                key, expected_version=expected_version, found_version=None if found is None else found.version
            )
        draft = Draft(found)
        try:
            yield draft
        finally:
            draft.end()
        patch = draft.patch(expected_version=expected_version, at=self._now())
        draft.session = await self._changed(key, patch, expected_version)

    async def renew(self, key: str) -> Session:
        """Mint a new session id for `key`, fresh entry or not, and return the session; its fields stay.

        Whoever calls it gets a session of their own: two calls at once mint two ids one after the other, and the
        key keeps the second. The id it replaces is not found any more.

        Raises:
            ValueError: not a session key.
        """
        key = canonical_key(key)
        await self._opened()
        return await self._written(self._renew(key))

    async def touch(self, key: str) -> None:
        """Record activity now, for `Freshness(idle=...)`; the runtime does it when a turn ends.

        Never turns `last_activity_at` back, never makes an entry, leaves the version and `updated_at`.
        """
        key = canonical_key(key)
        await self._opened()
        await self._written(self._store.touch(key, at=self._now()))

    async def delete(self, key: str) -> bool:
        """Remove the entry of `key` with its fields, and tell whether there was one."""
        key = canonical_key(key)
        await self._opened()
        return await self._written(self._store.delete(key))

    async def _opened(self) -> None:
        pid = os.getpid()
        if self._pid == pid:
            return
        if self._pid is not None:
            raise NotConfigured(
                f"sessions in {self._store.where} were opened before this process was forked; "
                "make the Sessions object, or use it for the first time, after the fork"
            )
        await self._written(self._store.open())
        self._pid = pid

    async def _mint(self, key: str, seen: SessionEntry | None) -> Session:
        while True:
            at = self._now()
            entry, won = await self._store.reserve(key, _new_id(), at=at, replaces=seen)
            if won:
                return self._told(Session.of(entry, is_new=True), None if seen is None else seen.id)
            # A new id was minted after this call began: it is as fresh as ours would have been, whatever its clock.
            if seen is None or entry.id != seen.id or self._is_fresh(entry, at):
                return Session.of(entry)
            seen = entry

    async def _renew(self, key: str) -> Session:
        session_id = ""
        replaced: str | None = None

        def change(fresh: SessionEntry) -> SessionEntry:
            nonlocal replaced
            replaced = fresh.id
            return rebound(fresh, session_id, at=self._now())

        while True:
            session_id = _new_id()  # one that lost a reservation must not be offered again
            entry = await self._store.mutate(key, change)
            if entry is not None:
                return self._told(Session.of(entry, is_new=True), replaced)
            entry, won = await self._store.reserve(key, session_id, at=self._now(), replaces=None)
            if won:
                return self._told(Session.of(entry, is_new=True), None)

    async def _changed(self, key: str, change: Change, expected_version: int | None) -> Session:
        entry = await self._written(self._store.mutate(key, change))
        if entry is None:
            raise SessionConflict(key, expected_version=expected_version, found_version=None)
        return Session.of(entry)

    async def _written(self, work: Coroutine[Any, Any, _T]) -> _T:
        return await (settled(work) if self._store.waits else work)

    def _told(self, session: Session, replaced: str | None) -> Session:
        if self.hooks.wants(SessionMinted):
            self.hooks.emit(SessionMinted(key=session.key, session_id=session.id, replaced=replaced))
        return session

    def _is_fresh(self, entry: SessionEntry, at: float) -> bool:
        return self._freshness is None or not self._freshness.is_stale(entry, at)

    def _now(self) -> float:
        return self._wall_ns() / 1e9


def _new_id() -> str:
    return uuid.uuid4().hex
