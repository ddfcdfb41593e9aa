"""The session entry: the versioned record of a session, and the frozen snapshot handed to users."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from turnlane.sessions.values import NOTHING, frozen_fields, thaw

__all__ = ("Session", "SessionEntry", "minted", "rebound", "unstored")

_S = TypeVar("_S", bound="SessionEntry")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEntry:
    """One row of a session store: what is known of one session key.

    Two entries of a key are the same state exactly if `version` and `last_activity_at` are equal: every change but
    `touch` raises `version`, which is never used twice for a key, not even after a delete.

    Attributes:
        key: the session key, in canonical form.
        id: the session id, random, minted once per fresh key.
        version: grows with every change of the entry; only equal and greater mean something.
        fields: what users stored, deeply frozen: mappings are `MappingProxyType`, lists are tuples.
        created_at: when the id was minted, in seconds since the epoch.
        updated_at: when the entry last changed, in seconds since the epoch; never turns back.
        last_activity_at: when a turn last ended here, or the id was minted, in seconds since the epoch.
    """

    key: str
    id: str
    version: int
    fields: Mapping[str, object] = field(hash=False, repr=False)
    created_at: float
    updated_at: float
    last_activity_at: float

    def active(self, at: float) -> "SessionEntry":
        """Return the entry with its last activity at `at`; nothing else differs."""
        return replace(self, last_activity_at=at)

    def as_dict(self) -> dict[str, object]:
        """Return a copy in plain dictionaries and lists, as `json.dumps` takes them."""
        plain: dict[str, object] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["fields"] = thaw(self.fields)
        return plain

    def __reduce__(self) -> tuple[Any, ...]:
        # A MappingProxyType neither pickles nor copies; nothing in here can change, so thaw and freeze again.
        return _restore, (type(self), self.as_dict())


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(SessionEntry):
    """A snapshot of a session at the moment it was read. It is frozen: later changes do not show in it.

    Not guaranteed: that it is still what the store holds. Compare `version`, or let the store do it with
    `expected_version=`.

    Attributes:
        is_new: true for the one caller whose `resolve` minted the id, and for a session that is not stored.
    """

    is_new: bool = False

    @classmethod
    def of(cls, entry: SessionEntry, *, is_new: bool = False) -> "Session":
        """Return the snapshot of a stored entry."""
        return cls(
            key=entry.key,
            id=entry.id,
            version=entry.version,
            fields=entry.fields,
            created_at=entry.created_at,
            updated_at=entry.updated_at,
            last_activity_at=entry.last_activity_at,
            is_new=is_new,
        )


def minted(key: str, session_id: str, *, at: float, version: int) -> SessionEntry:
    """Return the first entry of a key. `at` is in seconds since the epoch."""
    return SessionEntry(
        key=key,
        id=session_id,
        version=version,
        fields=NOTHING,
        created_at=at,
        updated_at=at,
        last_activity_at=at,
    )


def rebound(entry: SessionEntry, session_id: str, *, at: float) -> SessionEntry:
    """Return `entry` under a new session id minted at `at`: the fields belong to the key and stay."""
    return SessionEntry(
        key=entry.key,
        id=session_id,
        version=entry.version + 1,
        fields=entry.fields,
        created_at=at,
        updated_at=max(entry.updated_at, at),
        last_activity_at=at,
    )


def unstored(key: str, session_id: str, *, at: float, is_new: bool) -> Session:
    """Return a session that no store knows: version 0, no fields."""
    return Session.of(minted(key, session_id, at=at, version=0), is_new=is_new)


def _restore(cls: type[_S], plain: dict[str, Any]) -> _S:
    facts: dict[str, Any] = {**plain, "fields": frozen_fields(plain["fields"])}
    return cls(**facts)
