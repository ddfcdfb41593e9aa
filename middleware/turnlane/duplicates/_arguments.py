"""What `Duplicates` accepts."""

from turnlane.duplicates.contract import DuplicateStore
from turnlane.duplicates.memory import MemoryDuplicateStore
from turnlane.duplicates.sqlite import SqliteDuplicateStore
from turnlane.sqlite import path_in

__all__ = ("count", "store_for")

FORMS = "memory://, sqlite:///relative/file.db, sqlite:////absolute/file.db"


def store_for(url: str) -> DuplicateStore:
    """Return the store a URL names, not yet open.

    Raises:
        ValueError: it names none; the message lists what there is.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("memory", "sqlite"):
        known_by = f"the URL scheme {scheme!r}" if separator else "a URL without ://"  # it may hold a password
        raise ValueError(f"no duplicate store is known by {known_by}; there are: {FORMS}")
    if scheme == "memory":
        if rest:
            raise ValueError(f"memory:// takes nothing after it, not {rest!r}")
        return MemoryDuplicateStore()
    return SqliteDuplicateStore(path_in(url))


def count(name: str, value: object, *, least: int) -> int:
    """Return a number of things.

    Raises:
        ValueError: it is no int, or not between `least` and what a database counts.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        raise ValueError(f"{name} must be an int, at least {least}, not {type(value).__name__} or out of range")
    return value
