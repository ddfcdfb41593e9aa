"""Where lanes live: the event loop, and what is made for it."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
import os
import secrets
from abc import ABC, abstractmethod
from threading import get_ident
from weakref import ref

from turnlane import errors
from turnlane.clock import Clock
from turnlane.hooks import Hooks
from turnlane.lanes.deadlines import Deadlines
from turnlane.lanes.endings import Endings
from turnlane.lanes.limits import Limits
from turnlane.lanes.line import Waiter
from turnlane.lanes.outcomes import Outcomes
from turnlane.lanes.table import Table
from turnlane.turns.turn import Turn, TurnState

__all__ = ("Home",)


class Home(ABC):
    """The state of all lanes of one event loop, bound to it while a lane lives, and to the next one after that.

    Mutable: `table` (who holds and waits), `outcomes`, `paused` (keys), `debts` (by key, the turns whose writing is to
    be taken back before the next one runs), `draining`, `closed_in` (the loop of
    `Lanes.aclose`), `guarded` (true when the short ways in and out are not open: a cap, a pause or a drain), `drains`
    (of the drains that wait; set when the last running turn ends); `_loop` and `_thread`, and with them `_deadlines`
    and `_endings`, made when needed; `turn_id_prefix`, `_secret` and `_wall_offset`, drawn at the first use in a
    process.
    """

    def __init__(self, *, limits: Limits, hooks: Hooks, clock: Clock, slow_after: float | None) -> None:
        self.turn_id_prefix: str = ""
        self._secret = b""
        self.hooks: Hooks = hooks
        self.table: Table = Table(limits)
        self.outcomes: Outcomes = Outcomes(hooks)
        self.paused: set[str] = set()
        self.debts: dict[str, dict[Turn, None]] = {}
        self.draining: bool = False
        self.closed_in: asyncio.AbstractEventLoop | None = None
        self.guarded: bool = limits.any
        self.drains: list[asyncio.Event] = []
        self._slow_after = slow_after
        self._monotonic = clock.monotonic
        self._wall_ns = clock.wall_ns
        self._wall_offset = 0.0
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._deadlines: Deadlines | None = None
        self._endings: Endings | None = None

    @property
    def chain_secret(self) -> bytes:
        """What the ids of turns are sealed with where they travel in a header; empty before the first turn."""
        return self._secret

    def look_guarded(self) -> None:
        """Open the short ways in and out, or close them, as things are now."""
        self.guarded = self._is_guarded()

    def _is_guarded(self) -> bool:
        return bool(self.paused or self.drains) or self.draining or self.table.limits.any

    @abstractmethod
    def _expire(self, waiter: Waiter) -> None:
        """End the wait of one whose deadline has come."""

    def holder_of(self, key: str) -> Turn | None:
        """Return the turn that runs for a key."""
        return self.table.holders.get(key)

    def running_turns(self) -> tuple[Turn, ...]:
        """Return the turns that run now; lanes of another thread may change meanwhile."""
        return tuple(self.table.holders.values())

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop these lanes live on now."""
        if self._loop is None:
            raise errors.NotConfigured("these lanes have never been used in an event loop")
        return self._loop

    @property
    def deadlines(self) -> Deadlines:
        """The deadlines of who waits, made at the first one."""
        if self._deadlines is None:
            self._deadlines = Deadlines(self.loop, self._expire)
        return self._deadlines

    @property
    def endings(self) -> Endings:
        """The ways a running turn is brought to its end, made at the first one."""
        if self._endings is None:
            self._endings = Endings(self.loop, self.hooks)
        return self._endings

    def require_thread(self) -> None:
        """Raise where another thread asks for what only the thread of the loop may do.

        Raises:
            NotConfigured: lanes live in a loop of another thread.
        """
        if self._loop is not None and (self.table.holders or self.table.waiting) and get_ident() != self._thread:
            raise errors.NotConfigured(
                "these lanes live in the event loop of another thread; use loop.call_soon_threadsafe or "
                "asyncio.run_coroutine_threadsafe"
            )

    @property
    def is_here(self) -> bool:
        """Whether this is the process that used these lanes last, not one forked from inside a turn."""
        return self._pid == os.getpid()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Move these lanes to the running loop; only while nobody runs or waits in another one.

        Raises:
            NotConfigured: another loop that is not closed has lanes here.
        """
        if self._loop is not None and (self.table.holders or self.table.waiting):
            if not self._loop.is_closed():
                raise errors.NotConfigured(
                    "these lanes are in use in another event loop, or were when this process was forked; "
                    "one Lanes object serves one loop at a time"
                )
            # The loop is gone and its turns with it: nothing of them will ever run again.
            self.forget_all()
        if self._deadlines is not None and self._loop is not None and not self._loop.is_closed():
            self._deadlines.stop()
        if self.closed_in not in (None, loop):  # a server that starts again, in a loop of its own, takes turns again
            self.closed_in = None
            self.draining = False
            self.guarded = self._is_guarded()
        self._loop = loop
        self._thread = get_ident()
        if self._pid != os.getpid():  # drawn at first use, so that processes forked before it have different names
            self._pid = os.getpid()
            self._close_short_ways_after_a_fork()
            self.debts = {}  # of a parent, which pays them
            # The wall clock is read once and carried on by the monotonic one: no step of it moves a token.
            self._wall_offset = self._wall_ns() / 1e9 - self._monotonic()
            self.turn_id_prefix = f"turn-{secrets.token_hex(6)}-"
            self._secret = secrets.token_bytes(32)
        self._deadlines = self._endings = None
        self.drains = []
        if self._slow_after is not None:
            loop.call_later(self._slow_after, self._look_for_slow, loop, self._slow_after)

    def _close_short_ways_after_a_fork(self) -> None:
        """Let no request of a forked child find the parent's task in the copy of its loop: `arrive` binds anew."""
        if hasattr(os, "register_at_fork"):
            reference = ref(self)

            def in_child() -> None:
                home = reference()
                if home is not None:
                    home._thread = 0

            os.register_at_fork(after_in_child=in_child)

    def forget_all(self) -> None:
        """Start anew where the loop was closed under its turns: what is collected of them later must find nothing."""
        for turn in self.table.holders.values():
            turn._state = TurnState.ENDED
            absorbed = turn._wait.absorbed if isinstance(turn._wait, Waiter) else None
            for waiter in absorbed or ():
                waiter.turn._state = TurnState.ENDED
        for line in self.table.lines.values():
            for waiter in line:
                waiter.turn._state = TurnState.ENDED
                waiter.line = waiter.deadline = None
        paused = self.paused
        self.table = type(self.table)(self.table.limits)
        for key in paused:
            self.table.pause(key)

    def _look_for_slow(self, loop: asyncio.AbstractEventLoop, slow_after: float) -> None:
        """Watch for slow turns: one timer while lanes live, none of it on the way of a turn."""
        if loop is not self._loop:
            return
        if not self.table.holders and not self.table.waiting:
            self._loop = None  # idle: let the loop go; the next turn binds again
            self._deadlines = self._endings = None
            self.outcomes.forget_slow()
            return
        following = self.outcomes.look_for_slow(self.table.holders.values(), self._monotonic(), slow_after)
        loop.call_later(following, self._look_for_slow, loop, slow_after)
