"""What a session store refuses."""

from typing import Any

from turnlane.errors._base import TurnlaneError
from turnlane.errors._engines import OutcomeUnknown

__all__ = ("SessionConflict", "SessionCorrupt", "SessionError", "SessionOutcomeUnknown", "SessionStoreUnavailable")


class SessionError(TurnlaneError):
    """Base of what a session store refuses. `key` is the session key, or the id where no key is known."""

    key: str


class SessionConflict(SessionError):
    """The entry changed since it was read. `fields` names the pinned fields that differ."""

    def __init__(
        self, key: str, *, expected_version: int | None, found_version: int | None, fields: tuple[str, ...] = ()
    ) -> None:
        self.key = key
        self.expected_version: int | None = expected_version
        self.found_version: int | None = found_version
        self.fields: tuple[str, ...] = fields
        if found_version is None:
            super().__init__(f"session {key!r}: there is no entry; resolve() makes one")
            return
        what = f"fields {', '.join(fields)} changed" if fields else f"version {expected_version} was expected"
        super().__init__(f"session {key!r}: {what}, version is {found_version}; read it again and decide anew")


class SessionCorrupt(SessionError, ValueError):
    """A stored entry can not be read. `where` names the store and the place in it."""

    def __init__(self, key: str, *, where: str, reason: str) -> None:
        self.key = key
        self.where: str = where
        self.reason: str = reason
        super().__init__(f"session {key!r} in {where} can not be read: {reason}")


class SessionStoreUnavailable(SessionError, ConnectionError):
    """The session store did not do the operation: it is locked, full, gone or not a store."""

    def __init__(self, key: str, *, where: str, operation: str, reason: str) -> None:
        self.key = key
        self.where: str = where
        self.operation: str = operation
        self.reason: str = reason
        super().__init__(f"session store {where} could not {operation} {key!r}: {reason}")


class SessionOutcomeUnknown(SessionError, OutcomeUnknown):
    """An answer was lost: what was asked of the store is done, will be done, or never will. Read before going on."""

    def __init__(self, key: str, *, where: str, operation: str, reason: str) -> None:
        super().__init__(where, operation=operation, reason=reason, key=key)
        self.args: tuple[Any, ...] = (
            (
                f"session store {where} may or may not have been able to {operation} {key!r}: {reason}; "
                "read it before you go on"
            ),
        )
