"""What can go wrong with PostgreSQL, in words."""

from types import MappingProxyType

__all__ = ("Failed", "Forked", "PostgresqlError", "Refused", "Unavailable", "Unsettled", "reason_of")

REASONS = MappingProxyType(
    {
        "23505": "another session has stored the same meanwhile",
        "25006": "the server takes no writes: it is a standby, or read-only",
        "28000": "the server refused the user",
        "28P01": "the server refused the password",
        "3D000": "there is no such database",
        "3F000": "its schema is gone; the next call makes it anew",
        "40001": "other transactions kept coming in between",
        "40P01": "other transactions kept coming in between",
        "42501": "the user lacks the right",
        "42P01": "its tables are gone; the next call makes them anew",
        "53100": "the server's disk is full",
        "53200": "the server has no memory left",
        "53300": "the server has no connection left",
        "55P03": "another session kept it locked",
        "57014": "it took too long and was stopped",
        "57P03": "the server is starting or stopping",
    }
)
CLASSES = MappingProxyType({"08": "the connection was lost", "57P": "the server has ended the connection"})
REPEATABLE = frozenset({"23505", "40001", "40P01"})
BUSY = frozenset({"53300", "57P03"})
GONE = frozenset({"3F000", "42P01"})


class PostgresqlError(Exception):
    """Base of what this package raises. `reason` says it in words, without secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason: str = reason


class Refused(PostgresqlError):
    """The database is not one to use: no driver, a newer schema, something else's, no rights."""


class Forked(PostgresqlError):
    """This process was forked from the one that opened the database."""

    def __init__(self) -> None:
        super().__init__("it was opened before this process was forked; make it, or use it first, after the fork")


class Unavailable(PostgresqlError):
    """It was not done."""


class Failed(Unavailable):
    """A call of the driver failed. `state` is the SQLSTATE; None where the server has not said anything."""

    def __init__(self, reason: str, *, state: str | None) -> None:
        super().__init__(reason)
        self.state: str | None = state

    @property
    def is_lost(self) -> bool:
        """Whether it has cost the connection."""
        return self.state is None or self.state.startswith(("08", "57P"))

    @property
    def is_repeatable(self) -> bool:
        """Whether the same transaction may do when it is run again at once."""
        return self.state in REPEATABLE

    @property
    def is_busy(self) -> bool:
        """Whether connecting again in a moment may do."""
        return self.state in BUSY

    @property
    def is_gone(self) -> bool:
        """Whether the tables are not there."""
        return self.state in GONE

    @property
    def is_forbidden(self) -> bool:
        """Whether the user lacks a right."""
        return self.state == "42501"


class Unsettled(PostgresqlError):
    """The connection was lost while a transaction was committed: nobody knows whether it was.

    Attributes:
        result: what the job has returned, and what counts if it was.
    """

    def __init__(self, reason: str, result: object) -> None:
        super().__init__(f"{reason} while it was committed")
        self.result: object = result


def reason_of(state: str, message: str) -> str:
    """Return what an error of the server means, in words and in its own."""
    words = REASONS.get(state) or next((words for begin, words in CLASSES.items() if state.startswith(begin)), None)
    return f"{words or 'PostgreSQL refused'} ({state}: {message})"
