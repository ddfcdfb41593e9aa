"""The tickets of one worker that live, as far as it has heard."""

from dataclasses import replace

from turnlane.engines.base import Alive, Answer, Ask, Granted, Interrupted, Lost, Note, Offered, Over, Queued

__all__ = ("Tickets",)


class Tickets:
    """What a worker has to renew when it looks for what it missed, and what it need not be told again.

    Mutable: `alive`; `_coming` (on the way to a lane, so that a note of them may be heard before the answer);
    `_offered` (to which ticket, by which: an offer is told once); `_asked` (to stop, and how); `_shared` (those who
    share the turn of another).
    """

    __slots__ = ("_asked", "_coming", "_offered", "_shared", "alive")

    def __init__(self) -> None:
        self.alive: dict[str, Alive] = {}
        self._coming: set[str] = set()
        self._offered: set[tuple[str, str]] = set()
        self._asked: dict[str, Interrupted] = {}
        self._shared: set[str] = set()

    def come(self, ticket: str) -> None:
        """Expect notes of a ticket that asks for a lane."""
        self._coming.add(ticket)

    def has_come(self, ticket: str) -> None:
        """Undo `come`: it is answered, or is not known to be."""
        self._coming.discard(ticket)

    def answered(self, key: str, ask: Ask, answer: Answer) -> None:
        """Keep what a ticket that asked for a lane was answered."""
        match answer:
            case Granted(token=token):
                self.alive[ask.ticket] = Alive(key, ask.ticket, token)
            case Queued(number=number):  # a note may have been faster
                self.alive.setdefault(ask.ticket, Alive(key, ask.ticket, number=number))
            case _:
                self.forget(ask.ticket)

    def is_news(self, note: Note) -> bool:
        """Tell whether a note that was looked for says what was not told yet, of a ticket that has not left since."""
        alive = self.alive.get(note.ticket)
        match note:
            case Granted(token=token):
                return alive is not None and alive.token != token
            case Interrupted(ticket=ticket):
                return alive is not None and self._asked.get(ticket) != note
            case Over(ticket=ticket, how="shared"):
                return alive is not None and ticket not in self._shared
            case _:
                return alive is not None

    def noted(self, note: Note) -> bool:
        """Keep what a note says; tell whether it is to be told."""
        match note:
            case Granted(key=key, ticket=ticket, token=token):
                if self._is_known(ticket):  # else it has left meanwhile
                    self.alive[ticket] = Alive(key, ticket, token)
            case Over(how="shared") | Interrupted() | Offered() if not self._is_known(note.ticket):
                pass  # it has left meanwhile, and nobody would forget it
            case Over(ticket=ticket, how="shared"):
                self._shared.add(ticket)
            case Interrupted(ticket=ticket, rollback=rollback):  # what is looked for tells of all rollbacks
                before = self._asked.get(ticket)
                self._asked[ticket] = replace(note, rollback=rollback or (before is not None and before.rollback))
            case Over(ticket=ticket) | Lost(ticket=ticket):
                self.forget(ticket)
            case Offered(ticket=ticket, by=by):
                if (ticket, by) in self._offered:
                    return False
                self._offered.add((ticket, by))
        return True

    def _is_known(self, ticket: str) -> bool:
        return ticket in self.alive or ticket in self._coming

    def forget(self, ticket: str) -> None:
        """Know nothing of a ticket."""
        self.alive.pop(ticket, None)
        self._asked.pop(ticket, None)
        self._shared.discard(ticket)
        if self._offered:
            self._offered = {pair for pair in self._offered if pair[0] != ticket}
