"""`Transcripts`: the ordered records of sessions, with a fence that lets go of the lock while a model is called."""

# The private side of a turn belongs to the parts it is made of.
# pyright: reportPrivateUsage=false

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

from turnlane.arguments import days, optional_count, seconds
from turnlane.clock import Clock
from turnlane.errors import TranscriptReentry, TranscriptUnavailable
from turnlane.hooks import Hooks
from turnlane.transcripts.contract import TranscriptStore
from turnlane.transcripts.entries import Entry, encoded
from turnlane.transcripts.given import author_of, require_id, require_one_of, require_policy
from turnlane.transcripts.locking import Lines, WriteLock
from turnlane.transcripts.outings import Outings
from turnlane.transcripts.short_writes import ShortWrites
from turnlane.transcripts.stores import store_at
from turnlane.transcripts.takeover import TakeoverPolicy
from turnlane.transcripts.transcript import Transcript
from turnlane.transcripts.working import to_its_end
from turnlane.turns import current_turn

__all__ = ("Transcripts",)

logger: logging.Logger = logging.getLogger("turnlane.transcripts")

DAY = 86400.0
BETWEEN_SWEEPS = 3600.0


class Transcripts:
    """The transcripts of sessions.

    Guarantees: what `append` has stored is in the transcript, in order, as long as nobody changes it by other means;
    such a change never becomes owned silently; words that could not be stored are salvaged.

    Not guaranteed: that a change by other means is prevented. It is found, and refused. An open transcript belongs to
    its event loop: a thread without one asks that loop, by `asyncio.run_coroutine_threadsafe`; a loop of another thread
    is a stranger to it, as another process is.

    Args:
        url: where they live: a directory, or a single file `*.jsonl`, as a path or `file:///path`; a database, as
            `sqlite:///relative/file.db`, `sqlite:////absolute/file.db` or `postgresql://user:password@host/database`;
            or a store. The transcript of a single file has the id that is its name without `.jsonl`.
        state_dir: where the journals, salvage and tombstones are, if the files belong to another program; by default
            beside the transcripts.
        at_open: what an unowned edit made while nobody had the transcript open is: `flag` tells a hook and adopts it,
            with a record; `raise` refuses to open.
        on_takeover: what an unowned edit found inside a turn is: `raise`, `accept` (adopt and go on), or a sync or
            async callable that is given the error and says which.
        lock_timeout: seconds to wait for others who write.
        verify_up_to: bytes up to which the content is compared at each prompt release and return.
        verify: `always` compares it whatever its size.
        durability: `process`: what is stored survives this process; `power`: it survives a power loss too.
        retain_days: days a deleted transcript is kept as a tombstone.
        allow_network_fs: use a network file system all the same.
        trace_turns: note which turn wrote what, so that `take_out` and the policy `Rollback` can take it away again; a
            small write more for each append of a turn.
        hooks: whom to tell.
        clock: replaces the machine's clock in tests.

    Raises:
        ValueError: an argument is out of its range, or the URL names no store there is.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | TranscriptStore,
        *,
        state_dir: str | os.PathLike[str] | None = None,
        at_open: Literal["flag", "raise"] = "flag",
        on_takeover: TakeoverPolicy = "raise",
        lock_timeout: float = 30.0,
        verify_up_to: int = 4 * 1024 * 1024,
        verify: Literal["bounded", "always"] = "bounded",
        durability: Literal["process", "power"] = "process",
        retain_days: float = 30.0,
        allow_network_fs: bool = False,
        trace_turns: bool = False,
        hooks: Hooks | None = None,
        clock: Clock | None = None,
    ) -> None:
        require_one_of("at_open", at_open, ("flag", "raise"))
        require_one_of("verify", verify, ("bounded", "always"))
        require_one_of("durability", durability, ("process", "power"))
        require_policy(on_takeover)
        optional_count("verify_up_to", verify_up_to, least=0)
        self.hooks: Hooks = hooks if hooks is not None else Hooks()
        self.lock_timeout: float = seconds("lock_timeout", lock_timeout)
        self._clock = clock if clock is not None else Clock()
        self._retain = days("retain_days", retain_days) * DAY
        self._sweep_at = 0.0
        self._at_open = at_open
        self._on_takeover: TakeoverPolicy = on_takeover
        if isinstance(url, TranscriptStore):
            self.store: TranscriptStore = url
            if trace_turns and not url.traces_turns:
                raise ValueError(f"trace_turns= is for the store that is made here; make {url!r} with it")
        else:
            self.store = store_at(
                os.fspath(url),
                state_dir=state_dir,
                verify_up_to=verify_up_to,
                verify_always=verify == "always",
                sync=durability == "power",
                allow_network_fs=allow_network_fs,
                trace_turns=trace_turns,
                clock=clock,
            )
        self._lines = Lines()
        self._short = ShortWrites(self.store, self._lines, self.lock_timeout, self.hooks)
        self.outings: Outings = Outings()
        # The open transcripts of a call chain, innermost first. One variable for each object, which dies with it.
        self._chain: ContextVar[tuple[Transcript, ...]] = ContextVar("turnlane_open_transcripts", default=())

    def __repr__(self) -> str:
        return f"<Transcripts {self.store.where}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of what was opened. Transcripts that are open stay so until their blocks end."""
        await self.store.aclose()

    @asynccontextmanager
    async def open(
        self,
        session_id: str,
        *,
        token: int | None = None,
        turn: str = "",
        at_open: Literal["flag", "raise"] | None = None,
        on_takeover: TakeoverPolicy | None = None,
    ) -> AsyncGenerator[Transcript, None]:
        """Open a transcript with its write lock: `async with transcripts.open(session.id, token=turn.token) as t:`.

        Args:
            session_id: whose transcript it is; one that is not there begins, empty.
            token: the fencing token of the turn; without one nothing is checked or recorded.
            turn: the id of the turn, for errors and the journal.
            at_open: as for the object.
            on_takeover: as for the object.

        Raises:
            ValueError: the id is empty, too long, or no text; or the token or the turn is none.
            TranscriptBusy: others kept the lock for `lock_timeout` seconds.
            TranscriptReentry: this call chain has it open already.
            StaleTurn: a turn with a higher token has written.
            TranscriptTakeover: `at_open="raise"`, and it was changed while nobody had it open; or, when the block ends
                without an error, it was changed inside the block.
            TranscriptCorrupt: a line is not an entry.
            TranscriptUnavailable: the store could not.
        """
        require_id(session_id)
        require_policy(on_takeover or "raise")
        adopt = (at_open or self._at_open) == "flag"
        author = author_of(turn, token)
        if self._open_here(session_id) is not None:
            raise TranscriptReentry(session_id, asked="opening it again")
        handle = await self.store.attach(session_id)
        lock = WriteLock(self._lines, session_id, handle, self.lock_timeout)
        transcript = Transcript(
            session_id,
            author,
            store=self.store,
            handle=handle,
            lock=lock,
            hooks=self.hooks,
            on_takeover=on_takeover or self._on_takeover,
            outings=self.outings,
        )
        check = False
        try:
            await lock.take()
            await to_its_end(asyncio.ensure_future(transcript.begin(adopt=adopt)))
            with self._chained(transcript):
                yield transcript
            check = True
        finally:
            await to_its_end(asyncio.ensure_future(transcript.close(check=check)))

    async def append(self, session_id: str, *entries: Entry, token: int | None = None, turn: str = "") -> None:
        """Store entries from anywhere: a short owned write, which open transcripts accept.

        In a call chain that has the transcript open it is written through that one, with its token.

        Args:
            session_id: whose transcript it is.
            entries: objects that JSON can hold.
            token: a fencing token, if there is one.
            turn: the id of a turn, for errors and the journal.

        Raises:
            ValueError: an entry is none, or the id is none.
            TranscriptTakeover: somebody changed the transcript who does not own it; the entries are in the salvage.
            TranscriptBusy, StaleTurn, TranscriptUnavailable: it was not stored; the entries are in the salvage.
        """
        require_id(session_id)
        open_here = self._open_here(session_id)
        if open_here is not None:
            await open_here.append(*entries)
            return
        lines, author = encoded(entries), author_of(turn, token)
        current = current_turn()
        if current is not None and current.id == turn and current._transcript is not None:
            author = replace(author, live=current._transcript.vouches_for(self, session_id))
        if lines:
            await to_its_end(asyncio.ensure_future(self._short.append(session_id, lines, author)))

    async def take_out(self, session_id: str, of: str, *, token: int | None = None, turn: str = "") -> int:
        """Take away what a turn has appended, also one whose process has died; see `Transcript.take_out`.

        Args:
            session_id: whose transcript it is; where there is none, none begins.
            of: the id of the turn whose entries go.
            token: the fencing token of the turn that takes them away.
            turn: its id, for errors, the salvage and the journal.

        Returns:
            How many entries were taken away.

        Raises:
            ValueError: an id is none.
            TranscriptUnavailable: these transcripts note no turns.
            TranscriptError: as `open` and `Transcript.take_out`; nothing was taken away.
        """
        require_id(session_id)
        author_of(of, token)
        if not self.store.traces_turns:
            reason = "these transcripts do not note which turn wrote what: trace_turns=True"
            raise TranscriptUnavailable(self.store.where, operation="roll a turn back", reason=reason)
        if not await self.store.exists(session_id):
            return 0
        async with self.open(session_id, token=token, turn=turn) as transcript:
            return await transcript.take_out(of)

    async def read(self, session_id: str, *, last: int | None = None) -> tuple[dict[str, Any], ...]:
        """Return the entries as they are now, without a lock and without proving them.

        Args:
            session_id: whose transcript it is; there are none where there is no transcript.
            last: at most so many, the newest.

        Raises:
            TranscriptCorrupt: a line is not an entry. Nothing is skipped.
            TranscriptUnavailable: the store could not.
        """
        require_id(session_id)
        optional_count("last", last, least=0)
        return await self.store.read(session_id, last)

    async def list(self) -> tuple[str, ...]:
        """Return the ids of all sessions that have a transcript, in order."""
        return await self.store.list()

    async def delete(self, session_id: str, *, token: int | None = None, turn: str = "") -> None:
        """Take a transcript away. It is kept as a tombstone for `retain_days`, then swept away, with its salvage.

        A turn that is out on a prompt release of it gets `TranscriptUnavailable` on its way back; what it wanted to
        store is salvaged. For a later open, of the same id, a new one begins. None there is nothing to do.

        Args:
            session_id: whose transcript it is.
            token: a fencing token, if there is one.
            turn: the id of a turn, for the journal.

        Raises:
            TranscriptReentry: this call chain has it open.
            TranscriptBusy, StaleTurn, TranscriptUnavailable: it was not deleted.
        """
        require_id(session_id)
        if self._open_here(session_id) is not None:
            raise TranscriptReentry(session_id, asked="deleting it")
        author = author_of(turn, token)
        if not await self.store.exists(session_id):
            return
        deleting = self._short.delete(session_id, author, at=self._clock.wall())
        await to_its_end(asyncio.ensure_future(deleting))
        if self._clock.monotonic() >= self._sweep_at:
            try:
                await self.sweep()
            except TranscriptUnavailable as error:
                logger.warning("sweep_failed where=%s: %s", self.store.where, error)

    async def sweep(self) -> int:
        """Remove deleted transcripts that were kept for `retain_days` for good; return how many.

        `delete` does so too, at most once an hour.

        Raises:
            TranscriptUnavailable: the store could not.
        """
        self._sweep_at = self._clock.monotonic() + BETWEEN_SWEEPS
        return await self.store.sweep(self._clock.wall() - self._retain)

    def _open_here(self, session_id: str) -> Transcript | None:
        for transcript in self._chain.get():
            # A thread with a loop of its own may have inherited the context; to it this is a stranger's transcript.
            if transcript.id == session_id and transcript.is_open and transcript.loop is asyncio.get_running_loop():
                return transcript
        # A turn may have opened it in another of its tasks.
        turn = current_turn()
        while turn is not None:
            opener = turn._transcript
            if opener is not None and opener.belongs_to(self, session_id):
                current = opener.current
                return current if current is not None and current.loop is asyncio.get_running_loop() else None
            turn = turn._parent
        return None

    @contextmanager
    def _chained(self, transcript: Transcript) -> Generator[None, None, None]:
        before = self._chain.set((transcript, *self._chain.get()))
        try:
            yield
        finally:
            try:  # noqa: SIM105  suppress() would hide which line may raise
                self._chain.reset(before)
            except ValueError:
                pass  # left in another context, as a generator that is closed elsewhere is
