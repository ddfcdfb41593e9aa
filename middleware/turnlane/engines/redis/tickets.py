"""What a worker knows of its tickets: what it says when the server has lost them, and when to look at their lanes."""

import asyncio
from collections.abc import Callable

from turnlane.engines.base import Alive, Granted, Queued

__all__ = ("Tickets",)

A_MOMENT = 0.002  # seconds after the end of a lease, so that it has ended


class Tickets:
    """The tickets of one worker, and a timer for each lane where one of them waits.

    Mutable: `_alive` (by ticket), `_waiting` (by key: those that wait), `_timers` (by key, of those alone).

    Args:
        look: called with the key of a lane that may be free by now.
    """

    def __init__(self, look: Callable[[str], None]) -> None:
        self._look = look
        self._alive: dict[str, Alive] = {}
        self._waiting: dict[str, set[str]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def alive(self) -> list[Alive]:
        """Return those that have an answer."""
        return [alive for alive in self._alive.values() if alive.token or alive.number]

    def ask(self, key: str, ticket: str) -> None:
        """A ticket comes to a lane, or asks again."""
        self._alive.setdefault(ticket, Alive(key, ticket))

    def queue(self, key: str, ticket: str, answer: Queued) -> None:
        """A ticket waits, unless a note was faster."""
        alive = self._alive.get(ticket)
        if alive is None or alive.token:
            return
        self._alive[ticket] = Alive(key, ticket, number=answer.number)
        self._waiting.setdefault(key, set()).add(ticket)
        self.watch(key, answer.look_after)

    def grant(self, note: Granted) -> None:
        """A ticket has its lane."""
        if note.ticket in self._alive:
            self._alive[note.ticket] = Alive(note.key, note.ticket, note.token)
            self._wait_no_more(note.key, note.ticket)

    def end(self, key: str, ticket: str) -> None:
        """A ticket is nothing any more."""
        self._alive.pop(ticket, None)
        self._wait_no_more(key, ticket)

    def watch(self, key: str, after: float | None) -> None:
        """Look at a lane after so many seconds, if a ticket of this worker waits there; None for not at all."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if after is not None and key in self._waiting:
            self._timers[key] = asyncio.get_running_loop().call_later(after + A_MOMENT, self._look, key)

    def clear(self) -> list[Alive]:
        """Forget all; return what there was."""
        tickets = list(self._alive.values())
        for timer in self._timers.values():
            timer.cancel()
        self.forget()
        return tickets

    def forget(self) -> None:
        """Forget all, in a process or loop that has no part in them."""
        self._alive, self._waiting, self._timers = {}, {}, {}

    def _wait_no_more(self, key: str, ticket: str) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.discard(ticket)
            if not waiting:
                del self._waiting[key]
                self.watch(key, None)
