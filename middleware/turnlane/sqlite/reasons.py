"""What the errors of SQLite mean."""

import sqlite3
from types import MappingProxyType

__all__ = ("Replaced", "is_busy", "is_corrupt", "is_lasting", "reason_of")

# The low byte of SQLite's extended error codes.
BUSY_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
LASTING_CODES = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
    }
)
REASONS = MappingProxyType(
    {
        sqlite3.SQLITE_BUSY: "another process kept it locked",
        sqlite3.SQLITE_CANTOPEN: "the file can not be opened",
        sqlite3.SQLITE_FULL: "the disk is full",
        sqlite3.SQLITE_IOERR: "the disk failed",
        sqlite3.SQLITE_LOCKED: "another connection kept it locked",
        sqlite3.SQLITE_NOTADB: "the file is not an SQLite database",
        sqlite3.SQLITE_READONLY: "the file can not be written",
    }
)


class Replaced(sqlite3.OperationalError):
    """The file was removed, or another put in its place, while it was written or read: nothing of that counts."""

    def __init__(self) -> None:
        super().__init__("the file was removed or replaced meanwhile")


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether trying again soon may help."""
    return _code(error) in BUSY_CODES


def is_lasting(error: sqlite3.Error) -> bool:
    """Tell whether only opening the file anew may help."""
    return _code(error) in LASTING_CODES


def is_corrupt(error: sqlite3.Error) -> bool:
    """Tell whether SQLite found the file, or text in it, damaged."""
    return _code(error) == sqlite3.SQLITE_CORRUPT or "decode to UTF-8" in str(error)


def reason_of(error: sqlite3.Error | OSError) -> str:
    """Return what went wrong, in words and with SQLite's name for it; an `OSError` comes of opening the file."""
    if isinstance(error, OSError):
        return f"the file can not be opened ({error.strerror or error})"
    if isinstance(error, Replaced):
        return str(error)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return f"{REASONS.get(_code(error), 'SQLite refused')} ({name}: {error})"


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
