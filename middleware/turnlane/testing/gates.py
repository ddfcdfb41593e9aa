"""Waiting for named events, so that no test has to sleep."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

from turnlane.hooks import Event, Hooks

__all__ = ("Gate", "Gates")

E = TypeVar("E", bound=Event)


class Gates:
    """Records every event of `hooks` and lets a test wait until one has happened.

    Guaranteed: an event that was emitted after this object was made is in `events`, in order, and opens every gate
    it fits, also one that is asked for later: a test can not miss it.

    Not possible: holding a lane up. Listeners are told after the fact and do not block; to stop a turn in a place of
    your choice, let its own code wait for an event of yours.

    Mutable: `events` and `_waiting`, the futures to wake at the next event.
    """

    def __init__(self, hooks: Hooks) -> None:
        self.events: list[Event] = []
        self._waiting: list[asyncio.Future[Event]] = []
        self._off = hooks.on(Event, self._record)

    def __repr__(self) -> str:
        return f"<Gates events={len(self.events)} waiting={len(self._waiting)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def at(self, event_class: type[E], *, where: Callable[[E], bool] | None = None) -> "Gate[E]":
        """Return the gate of events of a class, and of its subclasses.

        Args:
            event_class: a class of `turnlane.hooks`.
            where: tells which of them count; without it all do.
        """
        return Gate(self, event_class, where)

    def close(self) -> None:
        """Stop listening; what was recorded stays."""
        self._off()

    async def next_event(self) -> Event:
        """Wait for the next event of any kind, without a bound, and return it."""
        waiter: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _record(self, event: Event) -> None:
        self.events.append(event)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(event)


class Gate(Generic[E]):
    """The events of one kind; made by `Gates.at`."""

    __slots__ = ("_event_class", "_gates", "_where")

    def __init__(self, gates: Gates, event_class: type[E], where: Callable[[E], bool] | None) -> None:
        given = cast("object", event_class)
        if not (isinstance(given, type) and issubclass(given, Event)):
            raise ValueError(f"not an event class of turnlane.hooks: {event_class!r}")
        self._gates = gates
        self._event_class = event_class
        self._where = where

    def __repr__(self) -> str:
        return f"<Gate {self._event_class.__name__} seen={len(self.seen)}>"

    @property
    def seen(self) -> tuple[E, ...]:
        """The events that opened this gate so far."""
        where = self._where
        fitting = [event for event in self._gates.events if isinstance(event, self._event_class)]
        return tuple(event for event in fitting if where is None or where(event))

    async def reached(self, count: int = 1, *, timeout: float = 10.0) -> E:
        """Wait until there were `count` such events, and return the last of these.

        Args:
            count: how many, counted from when the `Gates` were made.
            timeout: seconds, a guard against a test that hangs.

        Raises:
            ValueError: `count` is less than one.
            TimeoutError: there were fewer; the message lists what happened instead.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        try:
            async with asyncio.timeout(timeout):
                while len(seen := self.seen) < count:
                    await self._gates.next_event()
        except TimeoutError:
            name = self._event_class.__name__
            happened = [type(event).__name__ for event in self._gates.events[-20:]]
            raise TimeoutError(
                f"{len(self.seen)} of {count} {name} events came within {timeout:g} s; the last events: {happened}"
            ) from None
        return seen[count - 1]
