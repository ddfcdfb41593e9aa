"""Session entries in Redis or Valkey: for workers on several machines."""

import asyncio
import json
import logging
import math
import uuid
from collections.abc import Mapping
from typing import cast

from turnlane.errors import SessionCorrupt, SessionOutcomeUnknown, SessionStoreUnavailable
from turnlane.redis import RedisClient, address_in, checked_prefix
from turnlane.sessions._redis_server import (
    DELETE,
    FIND,
    LAYOUT,
    LIST,
    OPEN,
    REPLACE,
    RESERVE,
    TOUCH,
    Names,
    translated,
)
from turnlane.sessions.base import Change, Reservation, SessionStore
from turnlane.sessions.entry import SessionEntry
from turnlane.sessions.values import NOTHING, frozen_fields, to_json

__all__ = ("RedisSessionStore",)

COLUMNS = ("id", "version", "fields", "created_at", "updated_at", "last_activity_at")
LONGEST_TIMEOUT = 60.0
# For as long as an operation may take, and again: its own later attempts ask for it.
KEEP_ANSWERS = round(2 * LONGEST_TIMEOUT * 1000)
# Longer than a request can be held back on its way.
KEEP_SPENT_IDS = 3_600_000
PAGE = 1000

logger: logging.Logger = logging.getLogger("turnlane.sessions")


class RedisSessionStore(SessionStore):
    """Keeps entries in Redis 6 or later, or Valkey, for processes of any number of machines.

    Each operation is one script, or one that proves what another has read, so it happens wholly or not at all. A
    write whose answer is lost is asked for again and done once. Where no answer comes within `timeout`, a write that
    the server may have got raises `SessionOutcomeUnknown`, and one that it certainly has not `SessionStoreUnavailable`.
    Entries never expire. A key whose entry the server has lost gets a new random id, never an old one.

    All keys of a store share the hash tag `{prefix}`: in a cluster a store lives on one node. A user needs no more than
    `~{prefix}:*`, and of commands `+ping +select +eval +evalsha +@hash +@sortedset +@string +exists +del +type`; with
    `+info` it is warned of what may be evicted.

    Not guaranteed: what the server does not keep. By default Redis may lose the last seconds of writes in a power loss
    or a failover, `FLUSHALL` and a `maxmemory-policy` of `allkeys-*` (logged as a warning) lose entries at any
    time, and versions that were lost may come again. A `list` of more than 1000 entries is read in steps of 1000, each
    as of its own moment.

    Args:
        url: `redis://[user:password@]host:port/database`, `redis+unix:///path?db=0`,
            `redis+sentinel://host:port,host:port/service/database` or `redis+cluster://host:port,host:port`; with
            `rediss` for TLS, where `?ssl_ca_certs=` names the file of an authority. `?prefix=` sets `prefix`.
        prefix: of all keys; stores with different prefixes know nothing of each other.
        timeout: seconds an operation may take, repetitions included; at most 60.
        max_connections: at a time, for each event loop.

    Raises:
        ValueError: the URL, or a number, is not understood.
        NotConfigured: the package redis is not installed.
    """

    def __init__(
        self, url: str, *, prefix: str = "turnlane:sessions", timeout: float = 5.0, max_connections: int = 20
    ) -> None:
        address = address_in(url)
        if not 0 < timeout <= LONGEST_TIMEOUT:
            raise ValueError(f"timeout must be greater than 0 and at most 60 seconds, not {timeout!r}")
        if isinstance(max_connections, bool) or not isinstance(max_connections, int) or max_connections < 1:
            raise ValueError(f"max_connections must be an int of at least 1, not {max_connections!r}")
        self.where: str = address.where
        self._names = Names(checked_prefix(prefix) if address.prefix is None else address.prefix)
        self._client = RedisClient(address, timeout=timeout, most=max_connections)

    def __repr__(self) -> str:
        return f"<RedisSessionStore {self.where} {'open' if self._client.is_open else 'not open'}>"

    async def open(self) -> None:
        """Connect, and look whether the server holds such a store, of which version, and may throw entries away."""
        with translated(self.where, "open", "*"):
            found = await self._client.run(OPEN, (self._names.layout,), (LAYOUT,))
            if found != b"%d" % LAYOUT:
                raise SessionStoreUnavailable(
                    "*",
                    where=self.where,
                    operation="open",
                    reason=f"its layout has version {_shown(found)}, this turnlane knows {LAYOUT}: upgrade it",
                )
            may_evict = await self._client.may_evict(self._names.layout)
        if may_evict:
            logger.warning("sessions_may_be_evicted store=%s: set maxmemory-policy to noeviction", self.where)

    async def aclose(self) -> None:
        """Wait for what has begun and close the connections."""
        await self._client.aclose()

    async def read(self, key: str) -> SessionEntry | None:
        """Return the entry of `key`."""
        with translated(self.where, "read", key):
            row = await self._client.command("HMGET", self._names.entry(key), *COLUMNS)
        return self._entry(key, row)

    async def read_by_id(self, session_id: str) -> SessionEntry | None:
        """Return the entry whose session id is `session_id` now."""
        with translated(self.where, "read", session_id):
            found = await self._client.run(FIND, (self._names.id(session_id),), (session_id, self._names.entries))
        if found is None:
            return None
        key, row = cast("list[object]", found)
        return self._entry(_shown(key), row)

    async def reserve(self, key: str, session_id: str, *, at: float, replaces: SessionEntry | None) -> Reservation:
        """Bind `key` to a new session id unless somebody was faster."""
        names = self._names
        stale: tuple[str, str] = ("", "") if replaces is None else (replaces.id, _number(replaces.last_activity_at))
        keys = (
            names.entry(key),
            names.id(session_id),
            names.id(stale[0] or session_id),
            names.keys,
            names.floor,
            names.done(_request()),
        )
        arguments = (key, session_id, _number(at), *stale, KEEP_ANSWERS, KEEP_SPENT_IDS)
        with translated(self.where, "reserve", key, writes=True):
            won, *rows = cast("list[object]", await self._client.run(RESERVE, keys, arguments))
        if not rows:
            reason = f"the id {session_id!r} was bound before and is no more"
            raise SessionOutcomeUnknown(key, where=self.where, operation="reserve", reason=reason)
        entry = self._entry(key, rows[0])
        if entry is None:
            raise SessionCorrupt(key, where=self._place(key), reason="it is a hash of something else")
        return Reservation(entry, won == 1)

    async def mutate(self, key: str, change: Change) -> SessionEntry | None:
        """Store what `change` makes of the fresh entry of `key`, and return it."""
        names, request = self._names, _request()
        now = asyncio.get_running_loop().time
        deadline = now() + LONGEST_TIMEOUT
        while (found := await self.read(key)) is not None:
            changed = change(found)
            if changed is found:
                return found
            keys = (names.entry(key), names.id(found.id), names.id(changed.id), names.done(request))
            seen = (found.id, str(found.version), _number(found.last_activity_at))
            arguments: tuple[str | int, ...] = (key, *seen, *_row(changed), KEEP_ANSWERS, KEEP_SPENT_IDS)
            with translated(self.where, "change", key, writes=True):
                if await self._client.run(REPLACE, keys, arguments) == 1:
                    return changed
            if now() > deadline:
                reason = f"others changed it all the time, for {LONGEST_TIMEOUT:g} s"
                raise SessionStoreUnavailable(key, where=self.where, operation="change", reason=reason)
        return None

    async def touch(self, key: str, *, at: float) -> None:
        """Set `last_activity_at` to `at` if that is later."""
        keys = (self._names.entry(key), self._names.done(_request()))
        with translated(self.where, "touch", key, writes=True):
            await self._client.run(TOUCH, keys, (_number(at), KEEP_ANSWERS))

    async def delete(self, key: str) -> bool:
        """Remove the entry of `key` and tell whether there was one, also if it can not be read."""
        names, request = self._names, _request()
        session_id, version = b"", b""  # no entry that can be read has these, so the first step only looks
        while True:
            keys = (names.entry(key), names.id(session_id), names.keys, names.floor, names.done(request))
            arguments = (key, session_id, version, KEEP_ANSWERS, KEEP_SPENT_IDS)
            with translated(self.where, "delete", key, writes=bool(session_id or version)):
                done, *seen = cast("list[object]", await self._client.run(DELETE, keys, arguments))
            if done != 2:
                return done == 1
            session_id, version = cast("list[bytes]", seen)

    async def list(self, prefix: str, limit: int) -> tuple[SessionEntry, ...]:
        """Return at most `limit` entries whose key starts with `prefix`, ordered by key."""
        found: list[SessionEntry] = []
        # No byte of UTF-8 is FF.
        begin, end = (b"[" + prefix.encode(), b"(" + prefix.encode() + b"\xff") if prefix else (b"-", b"+")
        while len(found) < limit:
            most = min(limit - len(found), PAGE)
            with translated(self.where, "list", f"{prefix}*"):
                answer = await self._client.run(LIST, (self._names.keys,), (begin, end, most, self._names.entries))
            page = cast("list[list[object]]", answer)
            entries = (self._entry(_shown(key), row) for key, row in page)
            found += (entry for entry in entries if entry is not None)
            if len(page) < most:
                break
            begin = b"(" + cast("bytes", page[-1][0])
        return tuple(found)

    def _entry(self, key: str, row: object) -> SessionEntry | None:
        columns = cast("list[object]", row)
        if all(column is None for column in columns):
            return None
        try:
            session_id, version, fields, *times = (_text(column) for column in columns)
            if not session_id or version != str(int(version)):
                raise ValueError(f"its id is {session_id!r} and its version {version!r}")
            created_at, updated_at, last_activity_at = (_moment(at) for at in times)
            return SessionEntry(
                key=key,
                id=session_id,
                version=int(version),
                fields=_fields(fields),
                created_at=created_at,
                updated_at=updated_at,
                last_activity_at=last_activity_at,
            )
        except (ValueError, RecursionError) as error:
            raise SessionCorrupt(key, where=self._place(key), reason=str(error)) from error

    def _place(self, key: str) -> str:
        return f"{self.where}, key {self._names.entry(key)}"


def _request() -> str:
    return uuid.uuid4().hex


def _number(at: float) -> str:
    return repr(float(at))


def _row(entry: SessionEntry) -> tuple[str, ...]:
    times = (entry.created_at, entry.updated_at, entry.last_activity_at)
    return (entry.id, str(entry.version), to_json(entry.fields), *map(_number, times))


def _shown(column: object) -> str:
    return cast("bytes", column).decode("utf-8", "replace")


def _text(column: object) -> str:
    if column is None:
        raise ValueError("a part of it is missing")
    return cast("bytes", column).decode()


def _fields(stored: str) -> Mapping[str, object]:
    if stored == "{}":
        return NOTHING
    fields: object = json.loads(stored)
    if not isinstance(fields, dict):
        raise ValueError("its fields are not a JSON object")
    return frozen_fields(cast("dict[str, object]", fields))


def _moment(at: str) -> float:
    number = float(at)
    if not math.isfinite(number):
        raise ValueError(f"it holds the time {at!r}")
    return number
