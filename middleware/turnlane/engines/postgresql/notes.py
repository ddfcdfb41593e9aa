"""What the functions in the database return, and notify: JSON, in which messages are base64."""

import json
from base64 import b64decode
from dataclasses import dataclass
from typing import Any

from turnlane.engines.base import (
    Answer,
    Carried,
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
from turnlane.postgresql import restored

__all__ = ("Heard", "Order", "answer_in", "heard_in", "view_in")

Heard = Granted | Over | Interrupted | Offered | Lost
"""A note as the database tells it."""


def answer_in(text: str) -> Answer:
    """Return what an acquiring ticket was answered."""
    match json.loads(text):
        case ["Queued", ahead, number, look_after]:
            return Queued(ahead, number, look_after)
        case ["Full", ahead, together]:
            return Full(ahead, together)
        case values:
            note = _note(values)
            if isinstance(note, Granted | Over):
                return note
            raise ValueError(f"the database has answered {text!r}")


@dataclass(frozen=True, slots=True)
class Order:
    """What all workers are told; a later one has a higher number."""

    number: int
    draining: bool


def heard_in(text: str) -> Note | Order | None:
    """Return a note, or an order; None for a hint that there is one to look for.

    Raises:
        ValueError: it is neither.
    """
    match json.loads(text):
        case ["Draining", int(number), bool(draining)]:
            return Order(number, draining)
        case ["Look", _, _]:
            return None
        case values:
            return _note(values)


def view_in(text: str) -> LaneView:
    """Return a lane at one moment."""
    key, ticket, age, waiting, paused = json.loads(text)
    holder = None if ticket is None else TicketView(restored(ticket), age)
    return LaneView(restored(key), holder, tuple(TicketView(restored(other), age) for other, age in waiting), paused)


def _note(values: Any) -> Note:
    match values:
        case ["Granted", key, ticket, token, owes, carried, dropped]:
            messages = tuple(Carried(restored(other), b64decode(message)) for other, message in carried)
            return Granted(
                restored(key), restored(ticket), token, owes, messages, tuple(b64decode(each) for each in dropped)
            )
        case ["Over", key, ticket, how, taker, payload]:
            return Over(restored(key), restored(ticket), how, restored(taker), b64decode(payload))
        case ["Interrupted", key, ticket, by, grace, rollback]:
            return Interrupted(restored(key), restored(ticket), restored(by), float(grace), rollback)
        case ["Offered", key, ticket, by, whom, payload]:
            return Offered(restored(key), restored(ticket), restored(by), restored(whom), b64decode(payload))
        case ["Lost", key, ticket]:
            return Lost(restored(key), restored(ticket))
        case _:
            raise ValueError(f"the database has told {values!r}")
