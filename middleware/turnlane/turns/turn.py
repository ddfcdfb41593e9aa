"""The turn: one run of an agent for one session, and the context that tells which turn runs here."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn, Protocol

from turnlane.errors import NotConfigured

if TYPE_CHECKING:
    from turnlane.sessions import Session

__all__ = ("Turn", "TurnState", "current_turn")


class TurnState(IntEnum):
    """Where a turn is in its life; it only moves forward."""

    WAITING = 0
    RUNNING = 1
    ENDED = 2


class TurnOwner(Protocol):
    """What a turn needs of the lanes it belongs to."""

    @property
    def name(self) -> str:
        """A random name, so that turn ids of two processes differ."""
        ...


class WaitRecord(Protocol):
    """What is known of the wait of a turn that stood in line."""

    @property
    def position(self) -> int:
        """How many were ahead on arrival."""
        ...

    @property
    def waited(self) -> float:
        """Seconds from arrival to start."""
        ...

    @property
    def hinted(self) -> bool:
        """Whether the policy's `hint_after` was reached."""
        ...


class Ending:
    """How a running turn is being brought to its end from outside: at most one way per turn, the first.

    `kind` is None while somebody only listens for an interruption (`flag`).
    """

    __slots__ = ("by", "cancelling", "flag", "kind", "timer")

    def __init__(self) -> None:
        self.kind: str | None = None
        self.by: str | None = None
        self.timer: asyncio.TimerHandle | None = None
        # What task.cancelling() said just before our own cancel(); None while we have not cancelled.
        self.cancelling: int | None = None
        self.flag: asyncio.Event | None = None


class Turn:
    """One run of an agent for one session; made by the lanes, never by hand.

    Attributes:
        key: the session key, in canonical form.
        token: the fencing token: grows with every turn of a key, never repeats; 0 while the turn waits.
        session: the session, where the runtime resolved one, else None.
    """

    # A held key costs one of these and one dictionary entry. What only a turn that waited or is being
    # ended needs lives in `_wait` and `_end`, which are None for all others.
    __slots__ = (
        "_end",
        "_number",
        "_owner",
        "_parent",
        "_started",
        "_state",
        "_task",
        "_wait",
        "key",
        "session",
        "token",
    )

    def __init__(
        self,
        key: str,
        token: int,
        number: int,
        owner: TurnOwner,
        task: "asyncio.Task[object] | None",
        parent: "Turn | None",
        started: float,
        state: TurnState,
    ) -> None:
        self.key: str = key
        self.token: int = token
        self.session: Session | None = None
        self._number: int = number
        self._owner: TurnOwner = owner
        self._task: asyncio.Task[object] | None = task
        self._parent: Turn | None = parent
        self._started: float = started
        self._state: TurnState = state
        self._wait: WaitRecord | None = None
        self._end: Ending | None = None

    def __repr__(self) -> str:
        return f"<Turn {self.id} key={self.key!r} {self._state.name.lower()} token={self.token}>"

    @property
    def id(self) -> str:
        """The name of this turn: opaque, not repeated by another turn of any process."""
        return f"turn-{self._owner.name}-{self._number}"

    @property
    def waited(self) -> float:
        """Seconds this turn stood in line."""
        return 0.0 if self._wait is None else self._wait.waited

    @property
    def position(self) -> int:
        """How many turns were ahead on arrival, the running one included."""
        return 0 if self._wait is None else self._wait.position

    @property
    def hinted(self) -> bool:
        """Whether as many were ahead as the policy's `hint_after` names."""
        return self._wait is not None and self._wait.hinted

    @property
    def running(self) -> bool:
        """Whether the turn holds its lane now."""
        return self._state is TurnState.RUNNING

    @property
    def interrupted(self) -> bool:
        """Whether this turn was asked to stop. It then has the policy's grace before its task is cancelled."""
        return self._end is not None and self._end.kind == "interrupt"

    async def wait_interrupted(self) -> None:
        """Return when this turn is asked to stop; for turns that would rather race than look at `interrupted`."""
        if self._end is None:
            self._end = Ending()
        if self._end.kind == "interrupt":
            return
        if self._end.flag is None:
            self._end.flag = asyncio.Event()
        await self._end.flag.wait()

    @contextmanager
    def detached(self) -> Generator[None, None, None]:
        """Leave the call chain inside the block: tasks started there are not part of any turn.

        They may ask for this turn's lane and wait for it like a stranger. A caller that awaits such a task
        from inside the turn waits for itself; nothing detects that.
        """
        previous = _current.set(None)
        try:
            yield
        finally:
            _current.reset(previous)

    @property
    def transcript(self) -> NoReturn:
        """The open transcript of this turn.

        Raises:
            NotConfigured: always in this version; the message says what is missing.
        """
        raise NotConfigured(
            f"turn {self.id} has no transcript: the runtime was made without transcripts; "
            "keep the history in your own store and read it inside the turn"
        )


_current: ContextVar[Turn | None] = ContextVar("turnlane_current_turn", default=None)


def nearest_running(turn: Turn | None) -> Turn | None:
    """Return the first of a turn and its ancestors that still runs."""
    while turn is not None and turn._state is not TurnState.RUNNING:  # pyright: ignore[reportPrivateUsage]
        turn = turn._parent  # pyright: ignore[reportPrivateUsage]
    return turn


def current_turn() -> Turn | None:
    """Return the turn this code runs in: the innermost one of the call chain that has not ended, or None.

    The call chain is what inherited the turn's context: the turn's own task and the tasks it started,
    for as long as the turn lives.
    """
    return nearest_running(_current.get())
