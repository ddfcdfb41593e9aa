"""What is asked of a server."""

from dataclasses import dataclass

__all__ = ("Attempt", "Command", "Host", "Lost", "Part")

Host = tuple[str, int]
"""A name or an address, and a port."""

Part = str | bytes | int
"""What a command is made of."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to send to the server that has `key`. `otherwise` is sent where it does not know the script."""

    key: bytes
    parts: tuple[Part, ...]
    otherwise: tuple[Part, ...] = ()


class Lost(Exception):
    """One attempt ended without an answer."""


@dataclass(slots=True)
class Attempt:
    """One operation, however often it is tried.

    Attributes:
        unanswered: how many commands were sent and got no answer.
        host: the server that was asked last.
    """

    unanswered: int = 0
    host: Host | None = None
