"""The Redis keys of a session store, the scripts that change them, and what their errors become."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from turnlane.errors import NotConfigured, SessionCorrupt, SessionOutcomeUnknown, SessionStoreUnavailable
from turnlane.redis import Forked, Refused, Unreachable, script_in

__all__ = ("DELETE", "FIND", "LAYOUT", "LIST", "OPEN", "REPLACE", "RESERVE", "TOUCH", "Names", "translated")

LAYOUT = 1
"""The version of what is kept under which name."""

OPEN = script_in("turnlane.sessions", "open")
FIND = script_in("turnlane.sessions", "find")
LIST = script_in("turnlane.sessions", "list")
RESERVE = script_in("turnlane.sessions", "reserve")
REPLACE = script_in("turnlane.sessions", "replace")
TOUCH = script_in("turnlane.sessions", "touch")
DELETE = script_in("turnlane.sessions", "delete")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of all keys of one store. They share a hash tag, so that a script can use any of them in a cluster."""

    prefix: str

    @property
    def entries(self) -> str:
        """The beginning of the names of all entries."""
        return f"{{{self.prefix}}}:entry:"

    @property
    def layout(self) -> str:
        """The version of the layout."""
        return f"{{{self.prefix}}}:layout"

    @property
    def keys(self) -> str:
        """The index of all session keys: a sorted set of equal scores."""
        return f"{{{self.prefix}}}:keys"

    @property
    def floor(self) -> str:
        """The highest version an entry had when it was deleted, so that its key never repeats one."""
        return f"{{{self.prefix}}}:floor"

    def entry(self, key: str) -> str:
        """The entry of a session key: a hash."""
        return f"{self.entries}{key}"

    def id(self, session_id: str | bytes) -> bytes:
        """The session key an id is bound to; empty, and gone after a while, where it must not be bound again."""
        beginning = f"{{{self.prefix}}}:id:".encode()
        return beginning + (session_id if isinstance(session_id, bytes) else session_id.encode())

    def done(self, request: str) -> str:
        """The answer to a request that has written, for a while."""
        return f"{{{self.prefix}}}:done:{request}"


@contextmanager
def translated(where: str, operation: str, key: str, *, writes: bool = False) -> Generator[None, None, None]:
    """Turn what the client raises into the errors of this package."""
    try:
        yield
    except Forked:
        raise NotConfigured(
            f"session store {where} was opened before this process was forked; "
            "make the Sessions object, or use it for the first time, after the fork"
        ) from None
    except Unreachable as error:
        kind = SessionOutcomeUnknown if writes and error.sent else SessionStoreUnavailable
        raise kind(key, where=where, operation=operation, reason=str(error)) from error
    except Refused as refused:
        if refused.code == "WRONGTYPE":
            raise SessionCorrupt(key, where=where, reason=str(refused)) from refused
        raise SessionStoreUnavailable(key, where=where, operation=operation, reason=str(refused)) from refused
