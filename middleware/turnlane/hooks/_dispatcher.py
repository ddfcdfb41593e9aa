"""The dispatcher that hands events to listeners."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar, cast

from turnlane.clock import Clock
from turnlane.hooks._events import Event
from turnlane.hooks._pump import Pump

__all__ = ("HookPlugin", "Hooks")

ENTRY_POINT_GROUP = "turnlane.hooks"
SLOW_LISTENER_SECONDS = 0.05
PATIENCE_SECONDS = 1.0

logger: logging.Logger = logging.getLogger("turnlane.hooks")

E = TypeVar("E", bound=Event)
Listener = Callable[[E], Awaitable[None] | None]


class HookPlugin(Protocol):
    """An object that registers its own listeners, as `Runtime(hooks=[...])` and entry points provide."""

    def register(self, hooks: "Hooks") -> None:
        """Call `hooks.on(...)` for each event wanted."""
        ...


@dataclass(slots=True, eq=False)
class _Registration:
    event_class: type[Event]
    listener: Callable[[Any], Awaitable[None] | None]
    is_async: bool
    pump: Pump


class Hooks:
    """Hands events to listeners.

    A sync listener runs at once and must not block: over 50 ms is logged. An async listener is fed in
    order from a queue of its own of `queue_size` events, by a task that exists only while there is
    work; when the queue is full the event is not given to that listener and `dropped` counts it. A
    listener that raises is logged; the others still hear the event.

    Not guaranteed: that an async listener has heard everything when the loop ends without `aclose`.

    Mutable: `_registrations`, `active` (true while there is one), `_by_class`, a cache of them that every change of
    registration empties, and `_tasks`, which feed async listeners now.
    """

    def __init__(self, *, queue_size: int = 1000, clock: Clock | None = None) -> None:
        if queue_size < 1:
            raise ValueError(f"queue_size must be at least 1, not {queue_size}")
        self.active: bool = False
        self.dropped: int = 0
        self._queue_size = queue_size
        self._monotonic = (clock or Clock()).monotonic
        self._registrations: list[_Registration] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._by_class: dict[type[Event], tuple[_Registration, ...]] = {}

    def __repr__(self) -> str:
        return f"<Hooks listeners={len(self._registrations)} dropped={self.dropped}>"

    def on(self, event_class: type[E], listener: Listener[E]) -> Callable[[], None]:
        """Call `listener` with every event of `event_class`; return a function that ends it.

        Raises:
            ValueError: `event_class` is not an event class or `listener` can not be called.
        """
        if not (isinstance(event_class, type) and issubclass(event_class, Event)):
            raise ValueError(f"not an event class of turnlane.hooks: {event_class!r}")
        if not callable(listener):
            raise ValueError(f"not callable: {listener!r}")
        is_async = inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(
            getattr(listener, "__call__", None)  # noqa: B004  an object may have an async __call__
        )
        called = cast("Callable[[Any], Awaitable[None] | None]", listener)
        registration = _Registration(event_class, called, is_async, Pump(called, self._queue_size))
        self._registrations.append(registration)
        self._changed()

        def off() -> None:
            if registration in self._registrations:
                self._registrations.remove(registration)
                registration.pump.clear()  # one that hears an event now hears it to its end, or to that of aclose
                self._changed()

        return off

    def install(self, plugin: HookPlugin | str) -> HookPlugin:
        """Let a plugin register its listeners and return it; text names an entry point of the group `turnlane.hooks`.

        Raises:
            ValueError: no entry point has that name, or the object has no `register` method.
        """
        if isinstance(plugin, str):
            plugin = self._load(plugin)
        if not callable(getattr(plugin, "register", None)):
            raise ValueError(f"a hook plugin needs a method register(hooks): {plugin!r}")
        plugin.register(self)
        return plugin

    def wants(self, event_class: type[Event]) -> bool:
        """Tell whether anybody listens, so that an event nobody wants is never built."""
        return self.active and bool(self._listening(event_class))

    def emit(self, event: Event) -> None:
        """Give `event` to its listeners. Never raises an `Exception`, never waits."""
        for registration in self._listening(type(event)):
            if registration.is_async:
                self._feed(registration, event)
            else:
                self._call(registration, event)

    async def aclose(self) -> None:
        """Give async listeners up to a second to hear what is queued, then one more to end when cancelled."""
        here = asyncio.get_running_loop()
        late = {task for task in self._tasks if task.get_loop() is here}
        if late:
            _, late = await asyncio.wait(late, timeout=PATIENCE_SECONDS)
        for task in late:
            task.cancel()
        if late:
            _, late = await asyncio.wait(late, timeout=PATIENCE_SECONDS)
        for task in late:
            logger.error("listener_stuck task=%r: it does not end although it was cancelled", task)
        for registration in self._registrations:
            self.dropped += registration.pump.clear()

    def _load(self, name: str) -> HookPlugin:
        found = [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name == name]
        if not found:
            known = sorted(point.name for point in entry_points(group=ENTRY_POINT_GROUP))
            raise ValueError(f"no entry point {name!r} in group {ENTRY_POINT_GROUP!r}; there are: {known}")
        plugin = found[0].load()
        return cast("HookPlugin", plugin() if isinstance(plugin, type) else plugin)

    def _changed(self) -> None:
        self.active = bool(self._registrations)
        self._by_class = {}

    def _listening(self, event_class: type[Event]) -> tuple[_Registration, ...]:
        try:
            return self._by_class[event_class]
        except KeyError:
            listening = tuple(r for r in self._registrations if issubclass(event_class, r.event_class))
            self._by_class[event_class] = listening
            return listening

    def _call(self, registration: _Registration, event: Event) -> None:
        began = self._monotonic()
        try:
            result = registration.listener(event)
        except (Exception, asyncio.CancelledError):  # what a listener cancelled, or finds cancelled, is its own affair
            logger.exception("listener_failed event=%s listener=%r", type(event).__name__, registration.listener)
        else:
            if inspect.isawaitable(result):
                self._feed(registration, result)
        took = self._monotonic() - began
        if took > SLOW_LISTENER_SECONDS:
            logger.warning(
                "listener_slow event=%s listener=%r took_ms=%.0f",
                type(event).__name__,
                registration.listener,
                took * 1000,
            )

    def _feed(self, registration: _Registration, work: Event | Awaitable[object]) -> None:
        if not registration.pump.put(work):
            self.dropped += 1
        task = registration.pump.task
        if task is not None and task not in self._tasks and not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
