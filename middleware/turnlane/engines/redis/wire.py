"""What goes to the scripts and comes from them: flat lists of texts and numbers."""

from collections.abc import Sequence
from typing import Literal, cast

from turnlane.engines.base import (
    Answer,
    Ask,
    Carried,
    Draining,
    Full,
    Granted,
    Interrupted,
    LaneView,
    Lost,
    Note,
    Offered,
    Over,
    Queued,
    TicketView,
)

__all__ = (
    "Missed",
    "answer_in",
    "arguments_of",
    "draining_in",
    "flag",
    "key_in",
    "key_out",
    "letter_in",
    "letter_to_all",
    "micros",
    "note_in",
    "seconds",
    "view_in",
)

Argument = str | bytes | int
How = Literal["superseded", "coalesced", "steered", "shared"]


class Missed:
    """A note that was too long to be sent: where to look for it."""

    __slots__ = ("key", "ticket")

    def __init__(self, key: str, ticket: str) -> None:
        self.key: str = key
        self.ticket: str = ticket


def micros(seconds: float) -> int:
    """Return seconds in microseconds."""
    return round(seconds * 1_000_000)


def seconds(found: object) -> float | None:
    """Return after how many seconds a lane is to be looked at again."""
    number = cast("int", found)
    return None if number < 0 else number / 1_000_000


def flag(value: bool) -> str:
    """Return a truth as the scripts read it."""
    return "1" if value else ""


def key_in(part: bytes) -> str:
    """Return the key of a lane."""
    return part.decode("utf-8", "surrogatepass")


def key_out(key: str) -> bytes:
    """Return the key of a lane as the scripts have it."""
    return key.encode("utf-8", "surrogatepass")


def arguments_of(ask: Ask) -> tuple[Argument, ...]:
    """Return what a ticket asks for; of one that only waits no more than the script needs."""
    room = -1 if ask.room is None else ask.room
    if not (ask.over or ask.tag or ask.steer or ask.payload or ask.number):
        return (ask.ticket, room)
    most = -1 if ask.most is None else ask.most
    return (
        *(ask.ticket, room, ask.over, repr(ask.grace), ask.tag, micros(ask.window), most, ask.overflow),
        *(flag(ask.steer), ask.whom, ask.payload, ask.number),
    )


def answer_in(key: str, ticket: str, found: object) -> Answer:
    """Return the answer to one that came to a lane."""
    if isinstance(found, int):
        return Granted(key, ticket, found)
    parts = cast("list[object]", found)
    if len(parts) > 1:
        ahead, number, again = cast("list[int]", parts)
        return Queued(ahead, number, seconds(again))
    answer = cast("list[bytes]", parts[0])
    if answer[0] == b"full":
        return Full(int(answer[1]), together=bool(answer[2]))
    note = note_in(answer)
    if isinstance(note, Granted | Over):
        return note
    raise ValueError(f"no answer is {found!r:.100}")


def note_in(found: Sequence[bytes]) -> Note:
    """Return the note that a script told."""
    kind, key, ticket = found[0], key_in(found[1]), found[2].decode()
    rest = found[3:]
    match kind:
        case b"granted":
            token, owes, count, *messages = rest
            end = 2 * int(count)
            carried = tuple(Carried(messages[i].decode(), messages[i + 1]) for i in range(0, end, 2))
            return Granted(key, ticket, int(token), bool(owes), carried, tuple(messages[end:]))
        case b"over":
            how, into, payload = rest
            return Over(key, ticket, _how(how), into.decode(), payload)
        case b"interrupted":
            by, grace, rollback = rest
            return Interrupted(key, ticket, by.decode(), float(grace), bool(rollback))
        case b"offered":
            by, whom, payload = rest
            return Offered(key, ticket, by.decode(), whom.decode(), payload)
        case b"lost":
            return Lost(key, ticket)
        case _:
            raise ValueError(f"no note is {found!r:.100}")


def letter_in(letter: bytes) -> "Note | Missed":
    """Return the note that was published, or where to look for it.

    Raises:
        ValueError, IndexError: it is none.
    """
    parts: list[bytes] = []
    at = 0
    while at < len(letter):
        colon = letter.index(b":", at)
        end = colon + 1 + int(letter[at:colon])
        parts.append(letter[colon + 1 : end])
        at = end
    if parts[0] == b"look":
        return Missed(key_in(parts[1]), parts[2].decode())
    return note_in(parts)


def letter_to_all(draining: bool) -> str:
    """Return what is published to all workers."""
    return f"draining {flag(draining)}"


def draining_in(letter: bytes) -> Draining | None:
    """Return what was published to all workers; None for the hint that the server has lost its data."""
    match letter.split():
        case [b"draining", *rest]:
            return Draining(rest == [b"1"])
        case _:
            return None


def view_in(key: str, found: Sequence[object]) -> LaneView | None:
    """Return a lane as it was looked at."""
    if not found:
        return None
    ticket, age, paused, *line = found
    views = [TicketView(cast("bytes", line[i]).decode(), _age(line[i + 1])) for i in range(0, len(line), 2)]
    holder = TicketView(cast("bytes", ticket).decode(), _age(age)) if ticket else None
    return LaneView(key, holder, tuple(views), bool(paused))


def _age(found: object) -> float:
    return cast("int", found) / 1_000_000


def _how(found: bytes) -> How:
    return cast("How", found.decode())
