"""What the demo server notes about each message while it works, in the order it happened."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

from turnlane.clock import Clock

__all__ = ("LABEL_HEADER", "Note", "NoteKind", "NotedArrivals", "TurnLog")

LABEL_HEADER = "x-demo-message"

NoteKind = Literal["arrived", "started", "loaded", "ended", "returned"]
Waiter = tuple[asyncio.AbstractEventLoop, asyncio.Event]

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing that happened to one message.

    `at` is in seconds from an arbitrary point. `loaded` carries the session id and the user messages of
    the history given to the model; `ended` the whole reply, None where the turn did not get that far.
    """

    kind: NoteKind
    label: str
    number: int
    at: float
    session_id: str | None = None
    remembered: tuple[str, ...] | None = None
    reply: str | None = None


class TurnLog:
    """The notes of one server. Written by the server's thread, read and waited for by the client's.

    Mutable, guarded by `_lock`: `_notes` (number equals position), `_waiters`, `_closed`.
    """

    def __init__(self) -> None:
        self._monotonic = Clock().monotonic
        self._lock = threading.Lock()
        self._notes: list[Note] = []
        self._waiters: dict[tuple[NoteKind, str], list[Waiter]] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<TurnLog notes={len(self._notes)}{' closed' if self._closed else ''}>"

    def note(
        self,
        kind: NoteKind,
        label: str,
        *,
        session_id: str | None = None,
        remembered: tuple[str, ...] | None = None,
        reply: str | None = None,
    ) -> None:
        """Write a note down and wake who waits for it. A closed log takes no more."""
        with self._lock:
            if self._closed:
                return
            self._notes.append(
                Note(
                    kind=kind,
                    label=label,
                    number=len(self._notes),
                    at=self._monotonic(),
                    session_id=session_id,
                    remembered=remembered,
                    reply=reply,
                )
            )
            # Under the lock: whoever waits takes itself out under it, so its loop is not closed yet.
            for loop, event in self._waiters.pop((kind, label), []):
                loop.call_soon_threadsafe(event.set)

    async def noted(self, kind: NoteKind, label: str, *, timeout: float = 60.0) -> None:
        """Return once there is such a note.

        Args:
            kind: what to wait for.
            label: of which message.
            timeout: seconds.

        Raises:
            TimeoutError: the note did not come.
        """
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            if any(note.kind == kind and note.label == label for note in self._notes):
                return
            self._waiters.setdefault((kind, label), []).append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter[1].wait()
        finally:
            self._withdraw(kind, label, waiter)

    def _withdraw(self, kind: NoteKind, label: str, waiter: Waiter) -> None:
        """Wake `waiter` no more: its loop may be closed by the time there is such a note."""
        with self._lock:
            waiting = self._waiters.get((kind, label), [])
            if waiter in waiting:
                waiting.remove(waiter)
            if not waiting:
                self._waiters.pop((kind, label), None)

    def notes(self) -> tuple[Note, ...]:
        """Return the notes so far, oldest first."""
        with self._lock:
            return tuple(self._notes)

    def close(self) -> None:
        """Take no more notes: a server that goes on running must not collect them for ever."""
        with self._lock:
            self._closed = True


class NotedArrivals:
    """Notes when a labelled request reaches the server and when the whole app is done with it.

    It stands outside of every other middleware, so what waits in a lane has already arrived.
    """

    def __init__(self, app: AsgiApp, *, log: TurnLog) -> None:
        self.app = app
        self._log = log
        self._header = LABEL_HEADER.encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request through."""
        label = dict(scope["headers"]).get(self._header) if scope["type"] == "http" else None
        if label is None:
            await self.app(scope, receive, send)
            return
        name = label.decode("latin-1")
        self._log.note("arrived", name)
        try:
            await self.app(scope, receive, send)
        finally:
            self._log.note("returned", name)
