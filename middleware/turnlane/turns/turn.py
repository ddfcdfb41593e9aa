"""The turn: one run of an agent for one session."""

# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

from turnlane.errors import NotConfigured
from turnlane.turns.chain import BroughtChain, RawHeaders, chain_headers
from turnlane.turns.context import _current
from turnlane.turns.talk import Steering, Talk

if TYPE_CHECKING:
    from turnlane.sessions import Session
    from turnlane.transcripts import Transcript

__all__ = ("Turn", "TurnState")


class TurnState(IntEnum):
    """Where a turn is in its life; it only moves forward."""

    WAITING = 0
    RUNNING = 1
    ENDED = 2


class TurnOwner(Protocol):
    """What a turn needs of the lanes it belongs to."""

    @property
    def turn_id_prefix(self) -> str:
        """What the ids of its turns begin with: random, so that those of two processes differ."""
        ...

    def holder_of(self, key: str) -> "Turn | None":
        """Return the turn that runs for a key in these lanes."""
        ...

    @property
    def chain_secret(self) -> bytes:
        """What the ids of its turns are sealed with where they travel in a header; empty before the first turn."""
        ...

    def running_turns(self) -> "tuple[Turn, ...]":
        """Return the turns that run now."""
        ...


class TranscriptOpener(Protocol):
    """What a turn needs to open its transcript."""

    @property
    def current(self) -> "Transcript | None":
        """The one that is open."""
        ...

    def open(self) -> "AbstractAsyncContextManager[Transcript]":
        """Open it for a block, or share the one that is open."""
        ...

    async def take_back(self, *, token: int, turn: str) -> None:
        """Take back what the turn has written, for another one."""
        ...

    def vouches_for(self, transcripts: object, session_id: str) -> bool:
        """Tell whether it is, and the end of the turn will be noted there."""
        ...

    async def take_back_unended(self) -> None:
        """Take back what the last turn to write has written, if it has not ended."""
        ...

    async def end(self) -> None:
        """Note that the turn has ended."""
        ...

    def belongs_to(self, transcripts: object, session_id: str) -> bool:
        """Tell whether it is the one of `session_id` in `transcripts`."""
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

    `kind` is None while somebody only listens for an interruption (`flag`); `by` is the turn that interrupts, `seconds`
    the turn timeout. `over` tells that the turn has done all it was to do, and only settles; `takes_back` that it is to
    take back what a turn of a process that died has left, `undone` that this is to be done to it. `lost` names the
    engine whose lease has ended.
    """

    __slots__ = (
        "asked",
        "by",
        "cancelled",
        "flag",
        "kind",
        "lost",
        "over",
        "seconds",
        "takes_back",
        "timer",
        "undone",
    )

    def __init__(self) -> None:
        self.kind: str | None = None
        self.asked: bool = False  # to stop, by an interruption
        self.by: str | None = None
        self.seconds: float = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.cancelled: bool = False  # by us
        self.over: bool = False
        self.takes_back: bool = False
        self.undone: bool = False
        self.lost: str = ""
        self.flag: asyncio.Event | None = None


class Joins:
    """The calls that joined a turn and run now; its lane is held until they have ended.

    `tasks` counts them by task, `cancelled` are those of them that the lanes have cancelled; `left` tells that the
    turn's own block has ended, with `error`. `entering` is held by the call that gives the turn its session.
    """

    __slots__ = ("cancelled", "entering", "error", "left", "tasks")

    def __init__(self) -> None:
        self.tasks: dict[asyncio.Task[object] | None, int] = {}
        self.cancelled: set[asyncio.Task[object]] = set()
        self.left: bool = False
        self.error: BaseException | None = None
        self.entering: asyncio.Lock = asyncio.Lock()


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
        "_chain",
        "_end",
        "_joins",
        "_nested",
        "_number",
        "_origin",
        "_owner",
        "_parent",
        "_started",
        "_state",
        "_talk",
        "_task",
        "_transcript",
        "_wait",
        "key",
        "session",
        "token",
    )

    # No __init__: it would cost each request more than all the rest of its turn. `Gate` makes turns.
    key: str
    token: int
    session: "Session | None"
    _number: int  # names it among the turns of its lanes
    _owner: TurnOwner
    _task: "asyncio.Task[object] | None"
    _parent: "Turn | None"
    _started: float  # monotonic seconds of its arrival while it waits, then of its start
    _state: TurnState
    _origin: object
    _wait: WaitRecord | None
    _end: Ending | None
    _joins: Joins | None
    _talk: Talk | None
    _transcript: TranscriptOpener | None
    _chain: BroughtChain | RawHeaders | None  # what its request brought: its headers, until somebody asks
    _nested: "dict[Turn, None] | None"  # the turns of its chain that wait, for a lane of whatever lanes

    def __repr__(self) -> str:
        return f"<Turn {self.id} key={self.key!r} {self._state.name.lower()} token={self.token}>"

    @property
    def id(self) -> str:
        """The name of this turn: opaque, not repeated by another turn of any process."""
        return f"{self._owner.turn_id_prefix}{self._number}"

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
        return self._end is not None and self._end.asked

    @property
    def lost(self) -> bool:
        """Whether this turn has lost its lane while it ran: another may have it. Its fenced writes are refused then.

        Its task is cancelled, and ends with `EngineUnavailable`. Only lanes of a leased engine are ever lost.
        """
        return self._end is not None and bool(self._end.lost)

    @property
    def messages(self) -> tuple[Any, ...]:
        """What this turn answers: its own message, after those that were coalesced into it, in the order of arrival.

        Empty where whoever started it named no message.
        """
        return () if self._talk is None else self._talk.messages

    @property
    def message(self) -> Any:
        """What the policy's `merge` made of the messages; its own where there is one or no `merge`; None for none."""
        return None if self._talk is None else self._talk.message

    @property
    def dropped(self) -> tuple[Any, ...]:
        """Messages that were to be part of this turn and had to make room for newer ones; see `Coalesce`."""
        return () if self._talk is None else self._talk.dropped

    @property
    def steering(self) -> Steering:
        """The messages offered to this turn while it runs: `async for steered in turn.steering:`; see `Steer`."""
        if self._talk is None:
            self._talk = Talk()
        if self._talk.steering is None:
            self._talk.steering = Steering()
            if self._state is TurnState.ENDED:
                self._talk.steering.close()
        return self._talk.steering

    def share(self, result: object) -> None:
        """Give `result` to those whose messages were coalesced into this turn; see `Coalesce(share_result=True)`."""
        if self._talk is not None:
            self._talk.result = result

    async def wait_interrupted(self) -> None:
        """Return when this turn is asked to stop; for turns that would rather race than look at `interrupted`."""
        if self._end is None:
            self._end = Ending()
        if self._end.asked:
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

    def headers(self) -> dict[str, str]:
        """Return the headers that pass this turn's call chain on to another server; empty when the turn has ended.

        A server behind `LaneMiddleware` that is called with them refuses at once what would wait for this turn, or for
        one it was called from, instead of waiting for ever. They name turns by opaque ids, and whoever has them can
        pass for a callee of this turn while it runs, so give them only to servers you trust as callees;
        `turnlane.httpx` adds them to requests for the hosts you list. They hold no key, and nothing of a detached task.

        Raises:
            CallChainTooLong: more than 32 turns call each other.
        """
        return chain_headers(self)

    @property
    def transcript(self) -> "Transcript":
        """The open transcript of this turn: inside `agent_turn`, and inside the block of `open_transcript()`.

        Raises:
            NotConfigured: none is open, or the runtime has no transcripts; the message says what to add.
        """
        current = self._opener().current
        if current is None:
            raise NotConfigured(
                f"the transcript of turn {self.id} is not open: async with turn.open_transcript() as transcript:"
            )
        return current

    def open_transcript(self) -> "AbstractAsyncContextManager[Transcript]":
        """Open this turn's transcript: `async with turn.open_transcript() as transcript:`.

        Where it is open already, by `agent_turn` or another call of the turn, that one is shared, and closed when the
        last of them has ended.

        Raises:
            NotConfigured: the runtime has no transcripts; the message says what to add.
            TranscriptError: on entering or leaving, as `Transcripts.open`.
        """
        return self._opener().open()

    def _opener(self) -> TranscriptOpener:
        if self._transcript is None:
            raise NotConfigured(
                f"turn {self.id} has no transcript: give its runtime sessions and transcripts, as in "
                "Runtime(sessions='sqlite:///sessions.db', transcripts='state/transcripts')"
            )
        return self._transcript
