"""The contract of duplicate stores, and what they keep."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Self

__all__ = ("UNFINISHED", "Answer", "Claim", "DuplicateStore", "MessageRecord", "MessageState")

MessageState = Literal["waiting", "running", "answered", "stream", "not_kept", "unknown"]
"""How far a message has come: it waits for its lane, the app was called, its answer is kept, its answer was a stream,
its answer was too large to be kept, or the app was called and nobody knows what came of it."""

UNFINISHED: frozenset[MessageState] = frozenset({"waiting", "running"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole response, as it is sent again."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRecord:
    """What is known of one message.

    Attributes:
        run: names the one request that may run the message; unique.
        owner: names the process that request is in, as the store put it there.
        state: how far it has come.
        fingerprint: of what was sent.
        stream: whether a stream was asked for.
        expires: when it is forgotten, in seconds since the epoch.
        answer: what to send again; only where the state is `answered`.
    """

    run: str
    owner: str
    state: MessageState
    fingerprint: str
    stream: bool
    expires: float
    answer: Answer | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the state is a last one."""
        return self.state not in UNFINISHED


class Claim(NamedTuple):
    """What `DuplicateStore.claim` did: the record stored now, whether this call put it there, and in whose place."""

    record: MessageRecord
    won: bool
    replaced: MessageRecord | None = None


class DuplicateStore(ABC):
    """Where messages are remembered. `turnlane.testing.duplicate_store_suite` checks an implementation against this.

    Every method but `open` and `aclose` is atomic: it happens wholly or not at all, in one order for all callers of
    all processes, and whoever reads afterwards sees it. No method blocks the event loop or waits without a bound. A
    store is used from several event loops one after the other and keeps nothing that belongs to one of them. Trouble
    is `DuplicatesUnavailable`, never a driver's error. Time is told by the caller; a store does not look at `expires`
    but to drop what is over.

    A message is text of 64 characters. The number of finished records is bounded by `limit`; those of messages that
    have not finished are never dropped before they expire.
    """

    waits: ClassVar[bool] = True
    """False promises that no method ever suspends, so that a cancellation can not arrive inside one."""

    where: str
    """Names the store in errors and logs; must hold no password."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    @property
    @abstractmethod
    def owner(self) -> str:
        """Names this store object in this process, differently for each; known once it is open."""

    @abstractmethod
    async def open(self) -> None:
        """Make the store usable. Calling it again, also at the same time, is harmless.

        Raises:
            DuplicatesUnavailable: the store is not there, not a store, or of a newer version.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Finish what has begun and let everything go. Harmless to call again; `open` opens it anew."""

    @abstractmethod
    async def claim(
        self, message: str, record: MessageRecord, *, replaces: MessageRecord | None = None, anew: bool = False
    ) -> Claim:
        """Store `record` unless the message is known: insert-if-absent and compare-and-set in one.

        Wins if there is no record, if there is one whose `run` and `state` are those of `replaces`, or `anew`. The
        loser changes nothing and gets what is there.
        """

    @abstractmethod
    async def read(self, message: str) -> MessageRecord | None:
        """Return the record of a message. Takes no lock another process could hold, writes nothing."""

    @abstractmethod
    async def begin(self, message: str, run: str) -> bool:
        """Turn `waiting` into `running`, if that is the state of this very run; tell whether it was.

        When it is told it is on the disk: a crash of the machine after that does not make it `waiting` again.
        """

    @abstractmethod
    async def finish(self, message: str, record: MessageRecord, *, at: float, limit: int) -> bool:
        """Store the last state of a run; tell whether it was stored.

        It is not if another run has the message by now, or if another state than `unknown` ended this one. Then
        records that expired by `at` are dropped, in the end all of them, and of the finished ones those that finished
        first, until `limit` are left.
        """

    @abstractmethod
    async def free(self, message: str, run: str, *, restores: MessageRecord | None = None) -> None:
        """Drop the record if this run has it and has not finished: the message is a new one again.

        With `restores` that is stored instead: a record that had not finished.
        """

    @abstractmethod
    async def is_gone(self, owner: str) -> bool:
        """Tell whether the process of an owner is known to have ended; where that can not be told it has not."""
