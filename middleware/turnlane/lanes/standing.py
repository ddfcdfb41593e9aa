"""A turn as an engine knows it: its ticket, and what was granted to it."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

from dataclasses import dataclass, field, replace

from turnlane.begun import Begun
from turnlane.engines.base import Answer, Ask, Carried, Granted
from turnlane.lanes.capacity import principal_of
from turnlane.lanes.line import Waiter
from turnlane.lanes.wire import Unportable, digest, encoded
from turnlane.policies import Coalesce, Enqueue, Interrupt, Policy, Reject, Rollback, Steer
from turnlane.turns.turn import Turn

__all__ = ("Standing", "ask_of", "whom_of")


@dataclass(slots=True)
class Standing:
    """One turn of this process; one that was granted its lane at once has no `waiter`.

    Mutable: `first` (what the engine has said at once, or how far the first step has come), `asked_at` (when it was
    asked for it last), `known` (it has said how it stands), `number` (its place), `granted`, `carried` (those whose
    messages it has taken and who are not told yet), `scatter` (those are to stand alone), `over` (the engine does not
    know it any more), `result` (what another turn of this process shares with it).
    """

    turn: Turn
    policy: Policy
    ask: Ask
    waiter: Waiter = field(init=False)
    first: Answer | Begun | None = None
    asked_at: float | None = None
    known: bool = False
    number: int = 0
    granted: Granted | None = None
    carried: tuple[Carried, ...] = field(default=())
    scatter: bool = False
    over: bool = False
    result: object = None

    @property
    def token(self) -> int:
        """The one it has its lane by; 0 while it waits for that."""
        return 0 if self.granted is None else self.granted.token

    def come_again(self) -> None:
        """Ask for the place it had, which the engine has lost.

        What it has done to others when it came is done. It stands alone: beside a message that has come meanwhile it
        would take that one along, past others.
        """
        room = 0 if isinstance(self.policy, Reject) else None
        self.ask = replace(self.ask, number=self.number, room=room, over="", steer=False, tag="")


def ask_of(turn: Turn, policy: Policy, *, worker: str, alone: bool) -> Ask:
    """Return what a turn asks an engine for; `alone` is one that becomes no part of another."""
    ticket = turn.id
    match policy:
        case Enqueue():
            return Ask(ticket=ticket, room=policy.max_waiting)
        case Reject():
            return Ask(ticket=ticket, room=0)
        case Interrupt(grace=grace):
            return Ask(ticket=ticket, over="interrupt", grace=grace)
        case Rollback(grace=grace):
            return Ask(ticket=ticket, over="rollback", grace=grace)
        case Steer():
            whom = whom_of(turn, worker=worker)
            return Ask(ticket=ticket, room=policy.max_waiting, steer=True, whom=whom, payload=_payload(turn))
        case Coalesce():
            ask = Ask(ticket=ticket, room=policy.max_waiting, payload=_payload(turn))
            if alone or turn._talk is None or not turn._talk.messages or turn._parent is not None:
                return ask
            return replace(
                ask,
                tag=_tag(turn, policy, portable=bool(ask.payload), worker=worker),
                window=policy.window,
                most=policy.max_merged,
                overflow=policy.overflow,
            )


def whom_of(turn: Turn, *, worker: str) -> str:
    """Return a text that is the same for turns of one principal, in every process where its name says who that is."""
    principal = principal_of(turn)
    try:
        return digest(principal)
    except Unportable:
        return f"{worker} {hash(principal)}"


def _payload(turn: Turn) -> bytes:
    """Return the message of a turn; empty where only this process can read it."""
    try:
        return b"" if turn._talk is None else encoded(turn._talk.message)
    except Unportable:
        return b""


def _tag(turn: Turn, policy: Coalesce, *, portable: bool, worker: str) -> str:
    """Return what those agree in who become one turn; messages only this process can read stay in it."""
    talk = turn._talk
    terms = () if talk is None else (talk.principal, talk.target, replace(policy, wait_timeout=None))
    try:
        return digest(*terms) if portable else f"{worker} {digest(*terms)}"
    except Unportable:
        return f"{worker} {hash(terms)}"
