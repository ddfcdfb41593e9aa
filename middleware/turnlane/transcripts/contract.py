"""The contract of transcript stores: where transcripts live, and what one opener of one transcript may do."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnlane.errors import TranscriptUnavailable
from turnlane.transcripts.finding import Finding
from turnlane.transcripts.record import State

__all__ = ("Author", "Changes", "Fence", "Keep", "Loss", "TranscriptHandle", "TranscriptStore", "UnownedEdit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who writes: a turn with its fencing token, or nobody in particular.

    `live` tells that its end will be noted, by `TranscriptStore.end_turn`: if it is not, its process has died.
    """

    turn: str = ""
    token: int | None = None
    live: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Fence:
    """What an opener proved last.

    Attributes:
        version: of the owned content.
        state: that content.
        adopted: the adoption it goes back to, which has a name that none other ever has: whatever its version, what
            goes back to another one holds what this opener has not proven.
    """

    version: int
    state: State
    adopted: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """What owned writes of others did since the fence was proven.

    Attributes:
        entries: those they added, oldest first; all there are, if `rewritten`.
        rewritten: whether one of them was no append.
    """

    entries: tuple[dict[str, Any], ...] = ()
    rewritten: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """What a power loss took of a transcript: so many entries are lost, so many are kept."""

    lost: int
    kept: int


Keep = Callable[[Sequence[bytes]], Awaitable[object]]


class UnownedEdit(Exception):
    """The content is not the owned one. `Transcripts` makes a `TranscriptTakeover` of it, with what was salvaged."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding)
        self.finding: Finding = finding


class TranscriptHandle(ABC):
    """One opener of one transcript.

    It has a fence: what it proved last. The fence moves along proven writes only, never by looking at what is there.
    Not safe for several tasks at once: whoever uses it takes care that one method runs at a time. A write that has
    begun is finished before a cancellation is reported. Trouble is a `TranscriptError` or `UnownedEdit`, never a
    driver's error, and leaves the handle usable.
    """

    path: str
    """Names the transcript in errors."""

    remedy: str = ""
    """The command that settles an unowned edit; empty where only a later open does."""

    @property
    @abstractmethod
    def fence(self) -> Fence:
        """What was proven last; meaningless before `load`."""

    @abstractmethod
    async def lock(self, timeout: float) -> None:
        """Take the write lock, waiting at most `timeout` seconds.

        Raises:
            TranscriptBusy: others kept it. Nothing was changed.
        """

    @abstractmethod
    async def unlock(self) -> None:
        """Let the write lock go, if this handle has it. Never raises."""

    @abstractmethod
    async def load(self, author: Author, *, adopt: bool) -> tuple[list[dict[str, Any]], Finding | None]:
        """Read the whole transcript and set the fence; one that is not there begins, empty. Needs the lock.

        Returns:
            The entries, and the change nobody owned that was adopted, if there was one.

        Raises:
            UnownedEdit: there was one, and `adopt` is False.
            StaleTurn: a turn with a higher token has written.
            TranscriptCorrupt: a line is not an entry.
        """

    @abstractmethod
    async def join(self, author: Author) -> None:
        """Set the fence to what is owned without reading the content, to append to it. Needs the lock.

        Raises:
            UnownedEdit: as far as that can be told without reading; a transcript nobody has owned yet is one.
            StaleTurn: a turn with a higher token has written.
        """

    @abstractmethod
    async def prove(self, author: Author, *, content: bool) -> Changes:
        """Prove that nothing but owned writes changed the transcript, and move the fence. Needs the lock.

        Args:
            author: whose token is checked.
            content: whether to compare the content where that is bounded (see `Transcripts`), not only what a store
                can tell without reading it.

        Raises:
            UnownedEdit, StaleTurn, TranscriptCorrupt: as `load`. The fence stays.
        """

    @abstractmethod
    async def append(self, lines: Sequence[bytes], author: Author) -> None:
        """Append encoded entries behind the fence and move it. Needs the lock and a fence proven under it.

        Raises:
            UnownedEdit: somebody changed the transcript in that very moment; the entries may be in it.
            StaleTurn, TranscriptUnavailable: nothing was appended.
        """

    @abstractmethod
    async def rollback(self, to: Fence, author: Author, *, keep: Keep) -> tuple[bytes, ...]:
        """Take away what was appended behind an earlier fence of this handle, and return it, the oldest first.

        Needs the lock and a fence proven under it. It counts as a write that is no append, and moves the fence.

        Args:
            to: the fence to go back to.
            author: who goes back.
            keep: awaited with the lines before they are taken away; if it raises, nothing is.

        Raises:
            UnownedEdit, StaleTurn: as `prove`.
            TranscriptUnavailable: the transcript does not begin with what the fence stands for any more, or the store
                could not.
        """

    async def take_out(self, turn: str, author: Author, *, keep: Keep) -> tuple[bytes, ...]:
        """Take away what a turn has appended, wherever it stands, and return it, the oldest first; see `Transcripts`.

        Needs the lock and a fence proven under it. It counts as a write that is no append, and moves the fence. What
        others wrote stays, in its order. Who may come to it later finds all of the turn's lines, or none.

        Args:
            turn: the id of the turn.
            author: who takes it away. Its token is the highest from then on, also where there was nothing.
            keep: awaited with the lines before they are taken away; if it raises, nothing is.

        Raises:
            UnownedEdit, StaleTurn: as `prove`.
            TranscriptUnavailable: the store could not, or does not know who wrote what.
        """
        reason = "its store does not note which turn wrote what"
        raise TranscriptUnavailable(self.path, operation="roll a turn back", reason=reason)

    @abstractmethod
    async def delete(self, author: Author, *, at: float) -> None:
        """Take the whole transcript away, and keep it as a tombstone. Needs the lock, and proves nothing.

        Whoever had it open gets `TranscriptUnavailable` from then on; for later openers a new one begins. The highest
        token stays.

        Args:
            author: who deletes it.
            at: when, in seconds since the epoch.

        Raises:
            StaleTurn, TranscriptUnavailable: it was not deleted.
        """

    def take_loss(self) -> Loss | None:
        """Return what a power loss took, as it was found by `load`, `join` or `prove`; once."""
        return None

    def append_nowait(self, lines: Sequence[bytes], author: Author) -> bool:
        """Prove and append at once, where that takes no waiting; False, and nothing done, where it does.

        Raises:
            UnownedEdit, StaleTurn, TranscriptUnavailable: as `prove` and `append`.
        """
        return False

    def try_lock(self) -> bool:
        """Take the write lock at once, if nobody has it.

        Raises:
            TranscriptUnavailable: the store has nothing that a third party could write.
        """
        raise self._no_file()

    def unlock_nowait(self) -> None:
        """Let a lock of `try_lock` go."""
        raise self._no_file()

    def witness(self, author: Author) -> tuple[Changes, bytes]:
        """Prove the whole content at once, and return what others did since the fence, and the content.

        Raises:
            UnownedEdit, StaleTurn, TranscriptCorrupt: as `prove`.
        """
        raise self._no_file()

    def accept(
        self, author: Author, before: bytes, approves: Callable[[str], bool], rewrite: bool
    ) -> list[dict[str, Any]] | None:
        """Own what was done to `before` and move the fence, if `approves` says so of the text.

        Args:
            author: who has it done.
            before: the content that was witnessed.
            approves: called with the appended text; with `rewrite`, with the whole new one.
            rewrite: whether what was there may be changed.

        Returns:
            The entries that were appended, or all of them; None where nothing was changed.

        Raises:
            UnownedEdit: it is not approved, or what was there does not stand. The fence stays.
        """
        raise self._no_file()

    def _no_file(self) -> TranscriptUnavailable:
        reason = "its store has no file that others could write"
        return TranscriptUnavailable(self.path, operation="have it written by others", reason=reason)

    @abstractmethod
    async def aclose(self) -> None:
        """Let everything go, the lock too. Never raises, harmless to call again."""


class TranscriptStore(ABC):
    """Where transcripts live. Session ids are any text of 1 to 512 bytes; no two of them share a transcript."""

    where: str
    """Names the store in errors and logs; must hold no password."""

    traces_turns: bool = False
    """Whether it notes which turn wrote what, so that a turn can be rolled back."""

    @abstractmethod
    async def attach(self, session_id: str) -> TranscriptHandle:
        """Return a handle of one transcript, without its lock.

        Raises:
            TranscriptUnavailable: the store can not be used.
        """

    @abstractmethod
    async def read(self, session_id: str, last: int | None) -> tuple[dict[str, Any], ...]:
        """Return the entries, or the last of them, without a lock and without proving anything; none if there are none.

        Raises:
            TranscriptCorrupt: a line is not an entry.
            TranscriptUnavailable: the store can not be used.
        """

    async def exists(self, session_id: str) -> bool:
        """Tell whether anybody has begun a transcript; needs no lock, and begins none.

        Raises:
            TranscriptUnavailable: the store can not be used.
        """
        return session_id in await self.list()

    async def end_turn(self, session_id: str, author: Author) -> None:
        """Note that a live turn has ended, if it is the last turn that has written; needs no lock.

        Raises:
            TranscriptUnavailable: the store could not, or does not know who wrote what.
        """
        raise self._notes_no_turns(session_id)

    async def unended(self, session_id: str) -> str | None:
        """Return the id of the turn that was the last to write, if it was live and no `end_turn` came; needs no lock.

        Not guaranteed: that it is known after a power loss, unless writes survive that.

        Raises:
            TranscriptUnavailable: the store can not be used, or does not know who wrote what.
        """
        raise self._notes_no_turns(session_id)

    def _notes_no_turns(self, session_id: str) -> TranscriptUnavailable:
        reason = f"it does not note which turn wrote what in {session_id!r}"
        return TranscriptUnavailable(self.where, operation="tell whether a turn has ended", reason=reason)

    @abstractmethod
    async def salvage(self, session_id: str, lines: Sequence[bytes], author: Author, *, reason: str) -> str:
        """Keep what could not be stored, and say where.

        Raises:
            TranscriptUnavailable: it could not be kept there either.
        """

    @abstractmethod
    async def list(self) -> tuple[str, ...]:
        """Return the ids of all transcripts, in order; deleted ones are none."""

    @abstractmethod
    async def sweep(self, before: float) -> int:
        """Remove the tombstones of before that moment for good, and what was salvaged for them; return how many.

        Args:
            before: in seconds since the epoch.

        Raises:
            TranscriptUnavailable: the store could not.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Let everything go. Harmless to call again."""
