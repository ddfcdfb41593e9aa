"""What `Sessions` accepts: store URLs, session keys, versions."""

from turnlane.errors import SessionKeyInvalid
from turnlane.keys import MAX_KEY_BYTES, canonical
from turnlane.postgresql import is_postgresql
from turnlane.redis import is_redis
from turnlane.sessions.base import SessionStore
from turnlane.sessions.memory import MemorySessionStore
from turnlane.sessions.postgresql import PostgresqlSessionStore
from turnlane.sessions.redis import RedisSessionStore
from turnlane.sessions.sqlite import SqliteSessionStore
from turnlane.sqlite import path_in

__all__ = ("canonical_key", "checked_count", "checked_key", "checked_version", "store_for")

FORMS = (
    "memory://, sqlite:///relative/file.db, sqlite:////absolute/file.db, postgresql://user@host/database, "
    "redis://host:port/database, redis+sentinel://host:port/service, redis+cluster://host:port"
)


def store_for(url: str) -> SessionStore:
    """Return the store a URL names, not yet open.

    Raises:
        ValueError: it names none; the message lists what there is.
        NotConfigured: what it needs is not installed.
    """
    if is_postgresql(url):
        return PostgresqlSessionStore(url)
    scheme, separator, rest = url.partition("://")
    if separator and is_redis(scheme):
        return RedisSessionStore(url)
    if not separator or scheme not in ("memory", "sqlite"):
        known_by = f"the URL scheme {scheme!r}" if separator else "a URL without ://"  # it may hold a password
        raise ValueError(f"no session store is known by {known_by}; there are: {FORMS}")
    if scheme == "memory":
        if rest:
            raise ValueError(f"memory:// takes nothing after it, not {rest!r}")
        return MemorySessionStore()
    return SqliteSessionStore(path_in(url))


def checked_key(key: object, what: str = "session key", *, most: int = MAX_KEY_BYTES) -> str:
    """Return `key` if it can be one of at most `most` bytes, or what else is held to the same rule.

    Raises:
        ValueError: it is not text, empty, not UTF-8, or too long.
    """
    if not isinstance(key, str) or not key:
        raise ValueError(f"a {what} must be text that is not empty, not {key!r}")
    # No character has more than four bytes.
    if len(key) * 4 > most or not key.isascii():
        try:
            size = len(key.encode())
        except UnicodeEncodeError:
            raise ValueError(f"a {what} must be UTF-8 text, not {key!r}") from None
        if size > most:
            raise ValueError(f"a {what} has at most {most} bytes of UTF-8, this one has {size}")
    return key


def canonical_key(key: object) -> str:
    """Return the canonical form of a session key, in which all look-ups are done.

    Raises:
        ValueError: it is not text, blank, too long, or holds a character that no key may.
    """
    try:
        found = canonical(key, "session key") if isinstance(key, str) else None
    except SessionKeyInvalid as error:
        raise ValueError(f"a session key can not be {key!r}: {error.reason}") from None
    if found is None:
        raise ValueError(f"a session key must be text that is not blank, not {key!r}")
    return found


def checked_version(version: object) -> None:
    """Raise ValueError unless `version` can be an expected version, or is None."""
    if version is not None and (not isinstance(version, int) or isinstance(version, bool)):
        raise ValueError(f"expected_version must be an int or None, not {version!r}")


def checked_count(count: object, what: str) -> None:
    """Raise ValueError unless `count` is an int of at least 1."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{what} must be an int of at least 1, not {count!r}")
