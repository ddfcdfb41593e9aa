"""What is asked of a server."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ("Attempt", "Command", "Host", "Late", "Lost", "Packed", "Part", "Untrusted", "command_of", "packed")

Host = tuple[str, int]
"""A name or an address, and a port."""


class Packed(NamedTuple):
    """Some parts of many commands, as they are sent."""

    parts: int
    sent: bytes


Part = str | bytes | int | Packed
"""What a command is made of."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to send to the server that has `key`. `otherwise` is sent where it does not know the script."""

    key: bytes
    parts: tuple[Part, ...]
    otherwise: tuple[Part, ...] = ()


class Lost(Exception):
    """One attempt ended without an answer."""


class Untrusted(Lost):
    """The server has a certificate that is not to be trusted, which another attempt would not change."""


class Late(Lost):
    """Its time was over."""


@dataclass(slots=True)
class Attempt:
    """One operation, however often it is tried.

    Attributes:
        unanswered: how many commands were sent and got no answer.
        host: the server that was asked last.
    """

    unanswered: int = 0
    host: Host | None = None


def packed(parts: Iterable[Part]) -> Packed:
    """Return parts as they are sent, all in one piece: the driver goes over each of them several times."""
    count, sent = 0, list[bytes]()
    for part in parts:
        if isinstance(part, Packed):
            count += part.parts
            sent.append(part.sent)
            continue
        raw = part if isinstance(part, bytes) else part.encode() if isinstance(part, str) else b"%d" % part
        count += 1
        sent.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return Packed(count, b"".join(sent))


def command_of(parts: Iterable[Part]) -> bytes:
    """Return a command as it is sent."""
    count, sent = packed(parts)
    return b"*%d\r\n%b" % (count, sent)
