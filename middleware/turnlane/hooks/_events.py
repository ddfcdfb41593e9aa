"""Every event, one frozen class each.

An event is told after the transition it speaks of, never inside it: a listener can not change what
happened, delay who comes next by more than its own run time, or leave a lane half-way.
"""

from dataclasses import dataclass
from hashlib import blake2b

__all__ = (
    "DrainStarted",
    "DuplicateRefused",
    "DuplicateReplayed",
    "Event",
    "LaneLost",
    "PromptReacquired",
    "PromptReleased",
    "SessionMinted",
    "TailLost",
    "TakeoverFound",
    "TranscriptAdopted",
    "TurnCoalescing",
    "TurnFinished",
    "TurnInterruption",
    "TurnQueued",
    "TurnRefused",
    "TurnRolledBack",
    "TurnSlow",
    "TurnStarted",
    "TurnSteering",
    "UnownedEditFound",
    "key_digest",
)


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

    `outcome` is one of completed, failed, cancelled, interrupted, timed_out, lost. `ran` and `waited` are
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
class LaneLost(_KeyEvent):
    """A running turn is cancelled, because another may have its lane: `engine` has taken its process for dead."""

    turn: str
    engine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCoalescing(_KeyEvent):
    """The message of a turn that waited has become part of the turn `into`."""

    turn: str
    into: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSteering(_KeyEvent):
    """The message of a turn that waited was answered by the turn `into`, which ran."""

    turn: str
    into: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateReplayed(_KeyEvent):
    """A message that had arrived before got the answer of then; no turn ran. `message` is the same for the same one."""

    message: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateRefused(_KeyEvent):
    """A message that had arrived before was refused; no turn ran.

    `reason` is the code of the refusal: duplicate_running, duplicate_stream, duplicate_not_kept,
    duplicate_outcome_unknown, or idempotency_key_reused where another message had the key.
    """

    message: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMinted(_KeyEvent):
    """A fresh key got its session id. `replaced` is the id that had gone stale, if any."""

    session_id: str
    replaced: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _TranscriptEvent(Event):
    path: str
    session_id: str
    turn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptReleased(_TranscriptEvent):
    """A turn has let go of its transcript's lock to call a model. `turn` is empty outside of turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptReacquired(_TranscriptEvent):
    """A turn is back behind its fence. `changes` counts the entries that owned writes of others added meanwhile."""

    changes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeoverFound(_TranscriptEvent):
    """A turn found an unowned edit behind its fence; the members are those of `TranscriptTakeover`."""

    kind: str
    phase: str
    offset: int | None
    line: int | None
    salvaged: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptAdopted(_TranscriptEvent):
    """A change that nobody owned was taken in, with a record of it in the journal. `kind` is as in a takeover."""

    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRolledBack(_TranscriptEvent):
    """What a turn had written was taken away. `turn` did that, `of` is whose it was; it is in `salvaged`."""

    of: str
    entries: int
    salvaged: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TailLost(_TranscriptEvent):
    """A power loss has taken the last entries of a transcript: `lost` of them, `kept` stay. Nobody has changed it."""

    lost: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnownedEditFound(Event):
    """A `TranscriptMonitor` has seen a change that nobody owns. A warning: the fence of a turn decides.

    `kind` is as in a takeover; `offset` and `line` (from 1) say where, None where that can not be told; `at` is when it
    was seen, in seconds since the epoch. `turns` are the turns of this process that are out on a prompt release of the
    transcript, each empty for one without an id. `session_id` is None for files of other programs.
    """

    path: str
    session_id: str | None
    turns: tuple[str, ...]
    kind: str
    offset: int | None
    line: int | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainStarted(Event):
    """The lanes take no new turn. `running` may still end; `waiting` were told at once."""

    running: int
    waiting: int
