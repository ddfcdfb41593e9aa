"""Writing to an open transcript: appends, going back, and third parties that write the file themselves."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from turnlane.errors import StaleTurn, TranscriptBusy, TranscriptError, TranscriptReentry, TranscriptUnavailable
from turnlane.hooks import Hooks
from turnlane.transcripts.contract import Author, Fence, TranscriptHandle, TranscriptStore, UnownedEdit
from turnlane.transcripts.entries import Entry, encoded
from turnlane.transcripts.fenced import Fenced
from turnlane.transcripts.locking import WriteLock
from turnlane.transcripts.prompt import Prompt
from turnlane.transcripts.takeover import TakeoverPolicy, tell_loss
from turnlane.transcripts.third_party import OwnedWrite, Validate, refuse_awaitable
from turnlane.transcripts.working import to_its_end

__all__ = ("Phase", "Writable")

_T = TypeVar("_T")


class Phase(Enum):
    """Where an open transcript stands."""

    HELD = "held"
    OUT = "released"
    ADRIFT = "without its lock"  # the way back from a release found it kept by others
    CLOSED = "closed"


class Writable(Fenced):
    """A transcript that is open, without the way out of it and back.

    Mutable, beside what `Fenced` has: `_phase`, `_failure` (of a way back, told by the next use), `_prompt`.
    """

    def __init__(
        self,
        session_id: str,
        author: Author,
        *,
        store: TranscriptStore,
        handle: TranscriptHandle,
        lock: WriteLock,
        hooks: Hooks,
        on_takeover: TakeoverPolicy,
    ) -> None:
        super().__init__(
            session_id, author, store=store, handle=handle, lock=lock, hooks=hooks, on_takeover=on_takeover
        )
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._order = asyncio.Lock()
        self._phase = Phase.HELD
        self._failure: BaseException | None = None
        self._prompt: Prompt | None = None

    def __repr__(self) -> str:
        state = "taken over" if self._takeover is not None else self._phase.value
        return f"<Transcript {self.path} {state} entries={len(self._entries)}>"

    @property
    def entries(self) -> tuple[dict[str, Any], ...]:
        """What the transcript held when it was proven last, oldest first."""
        if self._told is None or len(self._told) != len(self._entries):
            self._told = tuple(self._entries)
        return self._told

    @property
    def fence(self) -> Fence:
        """What was proven last; `rollback` goes back to one."""
        return self._handle.fence

    @property
    def live(self) -> bool:
        """Whether the end of the turn that writes will be noted; for a runtime to say."""
        return self._author.live

    @live.setter
    def live(self, live: bool) -> None:
        self._author = replace(self._author, live=live)

    @property
    def is_open(self) -> bool:
        """Whether its block has not ended."""
        return self._phase is not Phase.CLOSED

    async def append(self, *entries: Entry) -> None:
        """Store entries, in this order, all of them or none.

        Inside `released()` the lock is taken for this append alone, and the fence moves with it.

        Args:
            entries: objects that JSON can hold.

        Raises:
            ValueError: an entry is none; nothing was stored.
            TranscriptTakeover, StaleTurn: somebody else changed the transcript; the entries are in the salvage.
            TranscriptBusy: the lock was not to be had; the entries are in the salvage.
            TranscriptUnavailable: the store could not; the entries are in the salvage.
            TranscriptReentry: it is asked for by what `owned_write` or `on_takeover` runs; they are in the salvage.
        """
        lines = encoded(entries)
        try:
            self._require_outside("an append inside owned_write or on_takeover")
        except TranscriptReentry as error:
            await self._keep(error, lines)
            raise
        if not (self._is_plain() and await self._append_at_once(lines)):
            await self._finish(self._append(lines))

    async def rollback(self, to: Fence) -> int:
        """Take away everything that was appended behind an earlier `fence`; it goes to the salvage first.

        Args:
            to: what `fence` was then.

        Returns:
            How many entries were taken away, those of others among them.

        Raises:
            TranscriptTakeover, StaleTurn, TranscriptBusy: as `append`.
            TranscriptUnavailable: the transcript was rewritten since, or what is behind the fence could not be
                salvaged; nothing was changed.
        """
        self._require_outside("a rollback inside owned_write or on_takeover")
        return await self._finish(self._with_lock(partial(self._go_back, to)))

    async def take_out(self, turn: str) -> int:
        """Take away what a turn has appended, wherever it stands; it goes to the salvage first.

        What others wrote stays, in its order, also what they wrote in between. Turns with a lower token than this one's
        write no more. Not guaranteed: that what somebody has rewritten since is known, as by a compaction or an edit
        that was adopted: it stays.

        Args:
            turn: the id of the turn: the last one that has written with a token, into transcripts with
                `trace_turns=True`.

        Returns:
            How many entries were taken away.

        Raises:
            TranscriptTakeover, StaleTurn, TranscriptBusy: as `append`.
            TranscriptUnavailable: the transcripts note no turns, or it could not be salvaged; nothing was changed.
        """
        self._require_outside("taking a turn out inside owned_write or on_takeover")
        return await self._finish(self._with_lock(partial(self._take_back, turn)))

    async def _with_lock(self, work: Callable[[], Awaitable[int]]) -> int:
        async with self._order:
            self._require_usable()
            if self._lock.held:
                return await work()
            await self._lock.take()
            try:
                return await work()
            finally:
                await self._lock.let_go()

    def owned_write(self, run: Callable[[], _T], *, validate: Validate, rewrite: bool = False) -> _T:
        """Have somebody else's synchronous code write the file, as the compaction of a framework does, and own it.

        What the file holds is proven before, by content. What `run` did is accepted only if the old content stands and
        what was appended is what `validate` approves. Where that is not so, the bytes stay as they are, nothing becomes
        owned, and it is a takeover. Nothing changed is nothing done. Works inside `released()` too, and blocks the
        event loop for as long as `run` takes.

        Args:
            run: writes the file; what it returns is returned.
            validate: called with that and the appended text; with `rewrite`, with the whole new text.
            rewrite: whether it may change what is there.

        Raises:
            TranscriptBusy: somebody else has the lock, which is tried once; `run` was not called.
            TranscriptTakeover, StaleTurn: the state could not be proven, and `run` was not called; or what it did is
                refused.
            TypeError: `run` or `validate` is a coroutine function.
            Exception: of `run`; if it has changed the file all the same, the next use is a takeover.

        What `on_takeover` says is not asked here: who has somebody else write knows what that is to be.
        """
        self._require_outside("owned_write inside itself or on_takeover")
        if self._order.locked():
            raise TranscriptBusy(self.path, lock_timeout=0.0)
        with self._witnessed(validate, rewrite=rewrite) as write:
            with self._inside():
                result = run()
            refuse_awaitable(result, "run", instead="use owned_write_async")
            return self._owned(write, result)

    async def owned_write_async(
        self, run: Callable[[], Awaitable[_T]], *, validate: Validate, rewrite: bool = False
    ) -> _T:
        """Do the same for a coroutine function. Appends of other tasks of the turn wait until it has ended.

        Raises:
            TranscriptReentry: `run`, or a task it has started, uses this transcript itself.
        """
        self._require_outside("owned_write inside itself or on_takeover")
        async with self._order:
            with self._witnessed(validate, rewrite=rewrite) as write:
                with self._inside():
                    result = await run()
                return self._owned(write, result)

    def _owned(self, write: OwnedWrite, result: _T) -> _T:
        entries = write.end(result)
        if entries is not None:
            self._entries, self._told = [*(() if write.rewrite else self._entries), *entries], None
        return result

    @contextmanager
    def _witnessed(self, validate: Validate, *, rewrite: bool) -> Generator[OwnedWrite, None, None]:
        self._require_usable()
        held_before, begun = self._lock.held, False
        if not held_before:
            self._lock.take_nowait()
        write = OwnedWrite(self._handle, self._author, validate, rewrite=rewrite)
        try:
            changes = write.begin()
            begun = True
            self._take_in(changes)
            if self._prompt is not None:
                self._prompt.note(changes)
            yield write
        except UnownedEdit as edit:
            raise self._stopped(edit.finding, "owned_write", None) from None
        except BaseException as error:
            if isinstance(error, StaleTurn):
                self._takeover = error
            left = write.failed() if begun else None
            if left is not None:
                error.add_note(str(self._stopped(left.finding, "owned_write", None)))
            raise
        finally:
            if not held_before:
                self._lock.let_go_nowait()

    def _is_plain(self) -> bool:
        """Tell whether nobody is before us and nothing is wrong."""
        return self._lock.held and not self._order.locked() and self._takeover is None and self._failure is None

    async def _append_at_once(self, lines: tuple[bytes, ...]) -> bool:
        try:
            if not lines or not self._handle.append_nowait(lines, self._author):
                return False
        except (TranscriptError, UnownedEdit) as error:
            await self._finish(self._in_order(self._not_written("append", lines, error)))
            return True
        self._add(lines)
        return True

    async def _in_order(self, work: Coroutine[Any, Any, None]) -> None:
        async with self._order:
            await work

    async def _append(self, lines: tuple[bytes, ...]) -> None:
        async with self._order:
            try:
                self._require_usable()
            except TranscriptError as error:
                raise await self._refused(error, lines) from error.__cause__
            if not lines:
                return
            if self._lock.held:
                await self._prove("append", lines, content=False)
                await self._write("append", lines)
                return
            try:
                await self._lock.take()
            except TranscriptError as error:
                raise await self._refused(error, lines) from error.__cause__
            try:
                await self._prove("append", lines, content=True, prompt=self._prompt)
                await self._write("append", lines)
            finally:
                await self._lock.let_go()

    async def close(self, *, check: bool) -> None:
        """End it: let the lock go and publish nothing. With `check` prove once more what it holds."""
        async with self._order:
            try:
                if check and self._takeover is None and self._lock.held:
                    await self._prove("close", (), content=True)
            finally:
                self._phase = Phase.CLOSED
                await self._lock.let_go()
                await self._handle.aclose()

    async def begin(self, *, adopt: bool) -> None:
        """Read the transcript; the lock is held."""
        try:
            loaded, finding = await self._handle.load(self._author, adopt=adopt)
        except UnownedEdit as edit:
            raise await self._taken_over(edit.finding, "open", ()) from None
        self._entries = loaded
        if finding is not None:
            self._tell_adopted(finding)
        tell_loss(self._hooks, self._handle, self.id, self._author)

    def _require_usable(self) -> None:
        if self._phase is Phase.CLOSED:
            raise self._ended()
        if self._takeover is not None:
            raise self._takeover
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _ended(self) -> TranscriptUnavailable:
        return TranscriptUnavailable(self.path, operation="go on with it", reason="its block has ended")

    async def _finish(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run something to its end, also if it is cancelled meanwhile: what was let go is taken back first."""
        return await to_its_end(asyncio.ensure_future(work))
