"""Watches who is in the app behind a mixed load: alone, in its order, with its session and its messages."""

from races.mixed_app import Sender, words_in
from races.mixed_book import Book
from support.seeded_loop import SeededLoop
from turnlane import Lanes, Turn, current_turn
from turnlane.messages import HttpMessage

__all__ = ("Watch",)

# Passes of the loop within which a client that has left must have left the line too.
PATIENCE = 40


class Watch:
    """Two detectors of overlap: a mark of its own for each lane, and the table's holder.

    Mutable: `_inside` (who is in the app, by lane), `_order`, `_tokens` and `_session_ids` of each lane so far.
    """

    def __init__(self, senders: list[Sender], book: Book, lanes: Lanes, loop: SeededLoop) -> None:
        self._senders = senders
        self._book = book
        self._lanes = lanes
        self._loop = loop
        self._wrong = book.wrong
        self._inside: dict[str, Sender] = {}
        self._order: dict[str, list[int]] = {}
        self._tokens: dict[str, list[int]] = {}
        self._session_ids: dict[str, set[str]] = {}

    def begin(self, sender: Sender, turn: Turn) -> list[str]:
        """Note that a request is in the app; return the messages that its turn answers."""
        lane, other = sender.lane, self._inside.get(sender.lane)
        if other is not None:
            self._wrong.append(f"request {sender.number} is in the app beside {other.number}")
        if sender.began or sender.barred:
            again = "again" if sender.began else "after it left"
            self._wrong.append(f"request {sender.number} reached the app {again}")
        if current_turn() is not turn or turn.key != lane or turn.session is None:
            self._wrong.append(f"request {sender.number} has {turn}, the current turn is {current_turn()}")
        sender.began = True
        self._look_for_the_patient(lane)
        self._book.check_lane(lane)
        words = self._words(sender, turn)
        self._book.begin(turn, sender.number, words)
        self._inside[lane] = sender
        self.still_there(sender)
        self._order.setdefault(lane, []).append(sender.arrived or 0)
        tokens = self._tokens.setdefault(lane, [0])
        if turn.token <= tokens[-1]:
            self._wrong.append(f"the token of {turn} does not grow: {tokens}")
        tokens.append(turn.token)
        self._session_ids.setdefault(lane, set()).add("" if turn.session is None else turn.session.id)
        return words

    def _words(self, sender: Sender, turn: Turn) -> list[str]:
        """Return the messages of a turn: its own is the last, the others stand before it in their order."""
        bodies = [message.body for message in turn.messages if isinstance(message, HttpMessage)]
        words = [word for body in bodies for word in words_in(body)] or [sender.word]
        arrived = [max((each.arrived or 0 for each in self._senders if each.word == word), default=0) for word in words]
        if words[-1] != sender.word or arrived[:-1] != sorted(arrived[:-1]):
            self._wrong.append(f"request {sender.number} has to answer {words}, which arrived as {arrived}")
        return words

    def end(self, sender: Sender) -> None:
        """Note that a request has left the app, or its lane; again nothing happens."""
        if self._inside.get(sender.lane) is sender:
            self.still_there(sender)
            self._look_for_the_patient(sender.lane)
            del self._inside[sender.lane]

    def still_there(self, sender: Sender) -> None:
        """Check that a request is alone in the app, and that its lane is held."""
        if self._inside.get(sender.lane) is not sender:
            self._wrong.append(f"{self._inside.get(sender.lane)} is in the app beside request {sender.number}")
        if sender.lane not in self._lanes.gate.table.holders:
            self._wrong.append(f"request {sender.number} is in the app and nobody holds {sender.lane!r}")

    def _look_for_the_patient(self, lane: str) -> None:
        for sender in self._senders:
            waits = sender.lane == lane and sender.arrived is not None and not sender.began and not sender.ended
            if waits and sender.left and self._loop.passes - sender.left_in_pass > PATIENCE:
                self._wrong.append(f"request {sender.number} still stands in line although its client has left")

    def check_end(self) -> None:
        """Check what must hold of each lane when every request has ended."""
        for lane, order in self._order.items():
            if order != sorted(order):
                self._wrong.append(f"requests of {lane!r} reached the app in this order of arrival: {order}")
        for lane, ids in self._session_ids.items():
            if len(ids) != 1:
                self._wrong.append(f"{lane!r} had these sessions: {ids}")
