"""The contract of engines: where lanes live that several processes share, and what one of them may ask for.

An engine knows tickets, not turns: who has a lane and who stands in its line, in which order. It runs nobody's code.
What it has to tell of its own accord it tells a worker as a `Note`. A worker is one `Lanes` object in one process.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = (
    "SECRET_BYTES",
    "Alive",
    "Answer",
    "Ask",
    "Carried",
    "Draining",
    "End",
    "Engine",
    "Full",
    "Granted",
    "Interrupted",
    "LaneView",
    "Lost",
    "Note",
    "Offered",
    "Over",
    "Queued",
    "Tell",
    "TicketView",
    "Told",
)


SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a ticket asks for when it comes to a lane.

    Attributes:
        ticket: its id, which none other ever has, made by the worker before it asks.
        room: how many may wait ahead of it; None for any number. With 0 it waits for nobody.
        over: whether it takes the place of all before it: those in line go, who has the lane is asked to stop;
            `rollback` also leaves a mark that what that one wrote is to be taken back.
        grace: seconds whoever has the lane is given to stop.
        tag: tickets with the same one that stand side by side are granted the lane as one; empty for one that stands
            alone.
        window: seconds without another of them after which they are.
        most: of them that may stand together.
        overflow: what happens to one more: it is refused, or takes the place of the oldest.
        steer: whether its message is offered to whoever has the lane.
        whom: who it is for, as far as that may be told.
        payload: the message itself, for another worker that carries it, or is offered it.
        number: its place in the line, if it had one and the engine has lost it.
        again: whether it was asked for before, and the engine may have heard it.
    """

    ticket: str
    room: int | None = None
    over: Literal["", "interrupt", "rollback"] = ""
    grace: float = 0.0
    tag: str = ""
    window: float = 0.0
    most: int | None = None
    overflow: Literal["refuse", "oldest"] = "refuse"
    steer: bool = False
    whom: str = ""
    payload: bytes = b""
    number: int = 0
    again: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """A ticket whose message is part of another's grant, and that message."""

    ticket: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Granted:
    """A ticket has its lane.

    Attributes:
        key: of the lane.
        ticket: its id.
        token: grows with every grant of the key, and over all that happens to the engine.
        owes: whether something was written that is to be taken back first.
        carried: tickets that have become part of this one, in order; each waits until `settle` says what became of it.
        dropped: messages that were to be part of it and had to leave.
    """

    key: str
    ticket: str
    token: int
    owes: bool = False
    carried: tuple[Carried, ...] = ()
    dropped: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Queued:
    """A ticket waits, with so many ahead, at a place with that number.

    `look_after` are the seconds after which it had better ask again.
    """

    ahead: int
    number: int = 0
    look_after: float | None = None


@dataclass(frozen=True, slots=True)
class Full:
    """A ticket was refused: so many are before it, or would be part of one turn with it if `together`."""

    ahead: int
    together: bool = False


@dataclass(frozen=True, slots=True)
class Over:
    """The wait of a ticket has ended without a grant.

    Attributes:
        key: of the lane.
        ticket: its id.
        how: another took its place, carries its message, or has taken it while it ran; with `shared` it waits on, for
            the end of the one that carries it.
        into: the ticket of that other.
        payload: what that one shares with it.
    """

    key: str
    ticket: str
    how: Literal["superseded", "coalesced", "steered", "shared"]
    into: str
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Lost:
    """A ticket is not known any more: its lease has ended, or the engine has lost it."""

    key: str
    ticket: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Whoever has the lane is to stop: for the ticket `by`, or, where that is empty, because somebody said so."""

    key: str
    ticket: str
    by: str
    grace: float
    rollback: bool = False


@dataclass(frozen=True, slots=True)
class Offered:
    """A message was offered to whoever has the lane, by a ticket that waits."""

    key: str
    ticket: str
    by: str
    whom: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Draining:
    """Every worker is to take no new turns, or to take them again."""

    draining: bool


Note = Granted | Over | Interrupted | Offered | Lost
Told = Note | Draining
Answer = Granted | Queued | Full | Over
Tell = Callable[[Told], None]


@dataclass(frozen=True, slots=True)
class End:
    """How the wait of a ticket is to end whose message has become part of another's turn; `shared` lets it wait on."""

    ticket: str
    how: Literal["coalesced", "steered", "shared"]
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Alive:
    """A ticket whose worker lives: with the token it has its lane by, or the number of its place."""

    key: str
    ticket: str
    token: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class TicketView:
    """A ticket at one moment: `age` is the seconds it has had the lane, or waited."""

    ticket: str
    age: float


@dataclass(frozen=True, slots=True)
class LaneView:
    """A lane at one moment."""

    key: str
    holder: TicketView | None
    waiting: tuple[TicketView, ...]
    paused: bool


class Engine(ABC):
    """Where lanes live.

    Guarantees: a lane is granted to one live ticket at a time, in the order in which tickets came, with a token that
    grows. Every step may be repeated, with the same ticket, without a further effect: after an error of which it is not
    known what it has done, it can be asked again. Every step grants a lane that is free to who is first and alive:
    nobody waits for a release that will not come.

    Not guaranteed: that whoever had a lane has stopped when its lease has ended and another has it; that is what the
    token is for. Nor that a note arrives: `renew` tells what was missed.

    An engine belongs to the event loop and the process it was opened in. Steps of one key are asked one after the
    other.
    """

    where: str
    """Names the engine in errors and logs; must hold no password."""

    lease: float | None
    """Seconds after which a worker that does not `renew` is taken for dead; None where the kernel tells at once."""

    immediate: bool = False
    """Whether a step is begun where it is asked for, and given to a task of its own only where it waits for something.

    Up to then it is in no task of its own: `turnlane.begun` has what it can do instead of `asyncio.timeout`."""

    secret: bytes = b""
    """What all workers of the place share, and nobody else knows, from `open` on: with it they tell the turns of each
    other from what a stranger makes up. Empty where there is none."""

    @abstractmethod
    async def open(self, worker: str, tell: Tell) -> None:
        """Begin, in the running loop.

        Args:
            worker: a name that none other has, or ever had.
            tell: called in the loop with each note for a ticket of this worker, or for all workers, maybe more than
                once; must not raise, or ask for a step.

        Raises:
            EngineUnavailable: it can not be reached, or used.
        """

    @abstractmethod
    async def acquire(self, key: str, ask: Ask) -> Answer:
        """Come to a lane. Asked again, it says how the ticket stands; with `again` also how its wait has ended.

        Raises:
            EngineUnavailable: nothing was done.
            OutcomeUnknown: it may have been done.
        """

    @abstractmethod
    async def leave(self, key: str, ticket: str, *, owes: bool | None = False, scatter: bool = False) -> None:
        """Let the lane go, or leave the line; a ticket that is neither is nothing.

        Whoever was part of it and was not settled stands where it stood.

        Args:
            key: of the lane.
            ticket: its id; an empty one only has the lane granted to who is first.
            owes: whether the next one is to take back what was written; None: if this one was to, which may not have
                been told yet that it has the lane.
            scatter: whether those who were part of it are to stand alone from now on.

        Raises:
            EngineUnavailable, OutcomeUnknown: as `acquire`.
        """

    @abstractmethod
    async def settle(self, key: str, ticket: str, ends: Sequence[End]) -> None:
        """End the waits of tickets whose messages have become part of the turn that has the lane.

        Raises:
            EngineUnavailable, OutcomeUnknown: as `acquire`.
        """

    @abstractmethod
    async def interrupt(self, key: str, *, grace: float) -> bool:
        """Have whoever has the lane asked to stop; tell whether there is anybody.

        Raises:
            EngineUnavailable, OutcomeUnknown: as `acquire`.
        """

    @abstractmethod
    async def pause(self, key: str | None, paused: bool) -> None:
        """Grant the lane to nobody until it is undone.

        Without a key, tell all workers that are open now, this one too, that they are `Draining`, or no longer. Whoever
        can not be told the first may be told the last; those that open later are told nothing.

        Raises:
            EngineUnavailable, OutcomeUnknown: as `acquire`.
        """

    @abstractmethod
    async def renew(self, tickets: Iterable[Alive]) -> list[Note]:
        """Say that tickets are alive, and return what is to be told of them.

        Of a ticket that has its lane it is `Granted`, again each time; of one that waits, nothing.

        Raises:
            EngineUnavailable, OutcomeUnknown: as `acquire`.
        """

    @abstractmethod
    async def look(self, key: str | None = None) -> list[LaneView]:
        """Return the lanes that live now, of all workers, by key; or one of them.

        Tickets of a worker that is known to have died are left out.

        Raises:
            EngineUnavailable: it can not be reached.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Let everything go. Tickets of this worker are lost. Harmless to call again; never raises."""

    @abstractmethod
    def forget(self) -> None:
        """Let go of what this process has open, where the loop is closed and nothing can be awaited any more."""
