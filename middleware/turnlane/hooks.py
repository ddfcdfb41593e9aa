"""Every event, one frozen class each, and the dispatcher that hands them to listeners.

An event is told after the transition it speaks of, never inside it: a listener can not change what
happened, delay who comes next by more than its own run time, or leave a lane half-way.
"""

import asyncio
import contextvars
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar, cast

from turnlane.clock import Clock

__all__ = (
    "DrainStarted",
    "Event",
    "HookPlugin",
    "Hooks",
    "SessionMinted",
    "TurnFinished",
    "TurnInterruption",
    "TurnQueued",
    "TurnRefused",
    "TurnSlow",
    "TurnStarted",
    "key_digest",
)

ENTRY_POINT_GROUP = "turnlane.hooks"
SLOW_LISTENER_SECONDS = 0.05

logger: logging.Logger = logging.getLogger("turnlane.hooks")


def key_digest(key: str) -> str:
    """Return 16 hex digits that stand for a session key where the key itself must not appear.

    Equal keys have equal digests, so log lines can be joined. It is not a secret: whoever can guess
    a key can compute its digest.
    """
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of every event. Listening to a base class receives its subclasses too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyEvent(Event):
    key: str

    @property
    def key_digest(self) -> str:
        """The session key as 16 hex digits, for logs; never use either as a metric label."""
        return key_digest(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnQueued(_KeyEvent):
    """A turn found its lane busy and stands in line.

    `ahead` counts the running one too; `hint` tells whether it reached the policy's `hint_after`.
    """

    turn: str
    ahead: int
    hint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStarted(_KeyEvent):
    """A turn has its lane. `waited` is in seconds."""

    turn: str
    token: int
    waited: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSlow(_KeyEvent):
    """A turn has been running for `running` seconds; `stack` is where its task stands now."""

    turn: str
    running: float
    stack: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFinished(_KeyEvent):
    """A turn that had started has let its lane go: the record that answers "same key, which session?".

    `outcome` is one of completed, failed, cancelled, interrupted, timed_out. `ran` and `waited` are
    seconds. `session_id` and `session_is_new` are None where no session was resolved.
    """

    turn: str
    token: int
    outcome: str
    waited: float
    ran: float
    session_id: str | None
    session_is_new: bool | None
    error: BaseException | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRefused(_KeyEvent):
    """A turn ended without having run. `reason` is the error's code in words, as in the statistics:
    busy, full, wait_timeout, superseded, reentry, draining, capacity, cancelled or client_gone.
    `waited` is in seconds.
    """

    turn: str
    reason: str
    waited: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnInterruption(_KeyEvent):
    """A running turn was asked to stop; its task is cancelled after `grace` seconds. `by` is a turn id or None."""

    turn: str
    by: str | None
    grace: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMinted(_KeyEvent):
    """A fresh key got its session id. `replaced` is the id that had gone stale, if any."""

    session_id: str
    replaced: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainStarted(Event):
    """The lanes take no new turn. `running` may still end; `waiting` were told at once."""

    running: int
    waiting: int


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
    queue: deque[Event] = field(default_factory=deque[Event])
    pump: "asyncio.Task[None] | None" = None


class Hooks:
    """Hands events to listeners.

    A sync listener runs at once and must not block: over 50 ms is logged. An async listener is fed in
    order from a queue of its own of `queue_size` events, by a task that exists only while there is
    work; when the queue is full the event is not given to that listener and `dropped` counts it. A
    listener that raises is logged; the others still hear the event.

    Not guaranteed: that an async listener has heard everything when the loop ends without `aclose`.

    Mutable: `_registrations`, `active` (true while there is one) and `_by_class`, a cache of them that
    every change of registration empties.
    """

    def __init__(self, *, queue_size: int = 1000, clock: Clock | None = None) -> None:
        if queue_size < 1:
            raise ValueError(f"queue_size must be at least 1, not {queue_size}")
        self.active: bool = False
        self.dropped: int = 0
        self._queue_size = queue_size
        self._monotonic = (clock or Clock()).monotonic
        self._registrations: list[_Registration] = []
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
        registration = _Registration(event_class, cast("Callable[[Any], Awaitable[None] | None]", listener), is_async)
        self._registrations.append(registration)
        self._changed()

        def off() -> None:
            if registration in self._registrations:
                self._registrations.remove(registration)
                registration.queue.clear()
                self._changed()

        return off

    def install(self, plugin: HookPlugin | str) -> None:
        """Let a plugin register its listeners; a string names an entry point of the group `turnlane.hooks`.

        Raises:
            ValueError: no entry point has that name, or the object has no `register` method.
        """
        if isinstance(plugin, str):
            plugin = self._load(plugin)
        if not callable(getattr(plugin, "register", None)):
            raise ValueError(f"a hook plugin needs a method register(hooks): {plugin!r}")
        plugin.register(self)

    def wants(self, event_class: type[Event]) -> bool:
        """Tell whether anybody listens, so that an event nobody wants is never built."""
        return self.active and bool(self._listening(event_class))

    def emit(self, event: Event) -> None:
        """Give `event` to its listeners. Never raises an `Exception`, never waits."""
        for registration in self._listening(type(event)):
            if registration.is_async:
                self._enqueue(registration, event)
            else:
                self._call(registration, event)

    async def aclose(self) -> None:
        """Give async listeners up to one second to hear what is queued, then stop them."""
        pumps = [r.pump for r in self._registrations if r.pump is not None and not r.pump.done()]
        here = asyncio.get_running_loop()
        pumps = [pump for pump in pumps if pump.get_loop() is here]
        if pumps:
            _, late = await asyncio.wait(pumps, timeout=1.0)
            for pump in late:
                pump.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for registration in self._registrations:
            self.dropped += len(registration.queue)
            registration.queue.clear()

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
            registration.listener(event)
        except Exception:
            logger.exception("listener_failed event=%s listener=%r", type(event).__name__, registration.listener)
        took = self._monotonic() - began
        if took > SLOW_LISTENER_SECONDS:
            logger.warning(
                "listener_slow event=%s listener=%r took_ms=%.0f",
                type(event).__name__,
                registration.listener,
                took * 1000,
            )

    def _enqueue(self, registration: _Registration, event: Event) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.dropped += 1
            return
        if len(registration.queue) >= self._queue_size:
            self.dropped += 1
            return
        registration.queue.append(event)
        pump = registration.pump
        if pump is None or pump.done() or pump.get_loop() is not loop:
            # An empty context: what a listener does is not part of the turn that was told of.
            registration.pump = loop.create_task(self._pump(registration), context=contextvars.Context())

    async def _pump(self, registration: _Registration) -> None:
        while registration.queue:
            event = registration.queue.popleft()
            try:
                await cast("Awaitable[None]", registration.listener(event))
            except Exception:
                logger.exception("listener_failed event=%s listener=%r", type(event).__name__, registration.listener)
