"""The call chain as it travels between servers: the ids of the turns a request was made from, each with a seal.

The seal of an id can only be made by the lanes whose turn it names. So who writes a header himself names no turn
here, whatever ids he has seen; what other lanes have sealed is passed on as it is.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from turnlane.errors import CallChainTooLong

if TYPE_CHECKING:
    from turnlane.turns.turn import Turn, TurnOwner

__all__ = (
    "CHAIN_HEADER",
    "MAX_TURNS",
    "BroughtChain",
    "RawHeaders",
    "brought_by",
    "brought_items",
    "chain_headers",
    "read_chain",
    "sealed_with",
)

CHAIN_HEADER = "x-turnlane-chain"
MAX_TURNS = 32  # deeper than any chain of agents that means to end
NAME = CHAIN_HEADER.encode()
ITEM = re.compile(r"[A-Za-z0-9_-]{1,64}\.[0-9a-f]{1,64}")
SEAL_BYTES = 10

RawHeaders = Sequence[tuple[bytes, bytes]]


class BroughtChain:
    """The call chain a request brought, outermost turn first.

    Mutable: `trusted`, whether its turn may use the running slot of a turn it names; `_callers`, the turns it names
    that ran here, innermost first, once somebody asked: who comes later in it has been running since before it was
    sent, so one look is enough.
    """

    __slots__ = ("_callers", "items", "trusted")

    def __init__(self, items: tuple[str, ...]) -> None:
        self.items: tuple[str, ...] = items
        self.trusted: bool = False
        self._callers: tuple[Turn, ...] | None = None

    def callers(self, owner: "TurnOwner") -> "tuple[Turn, ...]":
        """Return the turns of `owner` that the chain names and that run, innermost first."""
        if self._callers is None:
            self._callers = self._look_up(owner)
        return tuple(turn for turn in self._callers if turn.running)

    @property
    def looked_up(self) -> "tuple[Turn, ...]":
        """The turns that were found, also those that have ended since."""
        return self._callers or ()

    def _look_up(self, owner: "TurnOwner") -> "tuple[Turn, ...]":
        numbers = [number for item in self.items if (number := _number_in(item, owner)) is not None]
        if not numbers:  # nobody is searched for a stranger's sake
            return ()
        running = {turn._number: turn for turn in owner.running_turns() if turn._number in numbers}
        return tuple(running[number] for number in reversed(numbers) if number in running)


def read_chain(headers: Iterable[tuple[bytes, bytes]]) -> BroughtChain | None:
    """Return the chain in the headers of a request.

    None where there is none, and where what is there can not be one: who writes that passes only himself over.
    """
    items: list[str] = []
    for name, value in headers:
        if name == NAME:
            if len(value) > MAX_TURNS * 160:
                return None
            items += (item.strip() for item in value.decode("latin-1").split(",") if item.strip())
    if not 0 < len(items) <= MAX_TURNS or not all(ITEM.fullmatch(item) for item in items):
        return None
    return BroughtChain(tuple(dict.fromkeys(items)))


def brought_by(turn: "Turn") -> BroughtChain | None:
    """Return the chain that the request of a turn brought; its headers are read when somebody asks first."""
    brought = turn._chain
    if brought is not None and not isinstance(brought, BroughtChain):
        # An iterable that could be read only once belongs to the app.
        brought = turn._chain = read_chain(brought) if isinstance(brought, list | tuple) else None
    return brought


def brought_items(turn: "Turn | None") -> set[str]:
    """Return what the requests brought of a turn and of the running ones it is nested in."""
    items: set[str] = set()
    while turn is not None:
        brought = brought_by(turn)
        items.update(() if brought is None else brought.items)
        turn = turn._parent
        while turn is not None and not turn.running:
            turn = turn._parent
    return items


def sealed_with(secret: bytes, items: Iterable[str]) -> set[str]:
    """Return the ids of turns in items whose seals were made with a secret."""
    parts = (item.partition(".") for item in items)
    return {name for name, _, seal in parts if secret and hmac.compare_digest(seal, _seal(name, secret))}


def chain_headers(turn: "Turn | None") -> dict[str, str]:
    """Return the header that passes on the chain which ends in `turn`, empty where no turn of it runs any more.

    Raises:
        CallChainTooLong: there are more than `MAX_TURNS` turns in it.
    """
    items: list[str] = []
    last = turn
    while turn is not None:
        if turn.running:
            items.append(_sealed(turn))
            brought = brought_by(turn)
            items += () if brought is None else reversed(brought.items)
        turn = turn._parent
    unique = list(dict.fromkeys(reversed(items)))
    if last is not None and len(unique) > MAX_TURNS:
        raise CallChainTooLong(last.key, turns=len(unique), limit=MAX_TURNS)
    return {CHAIN_HEADER: ", ".join(unique)} if unique else {}


def _sealed(turn: "Turn") -> str:
    return f"{turn.id}.{_seal(turn.id, turn._owner.chain_secret)}"


def _seal(name: str, secret: bytes) -> str:
    return hashlib.blake2b(name.encode(), key=secret, digest_size=SEAL_BYTES).hexdigest()


def _number_in(item: str, owner: "TurnOwner") -> int | None:
    """Return the number of the turn of `owner` that an item names, if its seal is one that these lanes made."""
    name, _, seal = item.partition(".")
    prefix, secret = owner.turn_id_prefix, owner.chain_secret
    if not secret or not name.startswith(prefix) or not hmac.compare_digest(seal, _seal(name, secret)):
        return None
    return int(name.removeprefix(prefix))
