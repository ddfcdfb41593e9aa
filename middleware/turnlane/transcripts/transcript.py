"""An open transcript: the write lock, the fence, the entries, and letting go of the lock while a model is called."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from turnlane.errors import TranscriptError, TranscriptReentry
from turnlane.hooks import Hooks, PromptReacquired, PromptReleased
from turnlane.transcripts.contract import Author, TranscriptHandle, TranscriptStore, UnownedEdit
from turnlane.transcripts.finding import Finding
from turnlane.transcripts.locking import WriteLock
from turnlane.transcripts.outings import Outing, Outings
from turnlane.transcripts.prompt import Prompt
from turnlane.transcripts.takeover import TakeoverPolicy, rescue
from turnlane.transcripts.writable import Phase, Writable

__all__ = ("Transcript",)


class Transcript(Writable):
    """One transcript, open for one turn; made by `Transcripts.open`.

    Holds the write lock except inside `released()`. What it reads and writes is proven: an unowned edit that is found
    is a `TranscriptTakeover`, and from then on nothing is written any more. Not guaranteed: that an edit is found in
    the moment it is made, and that a change of a file above `verify_up_to` which leaves its fingerprint is found before
    the next open.

    One task at a time uses it; appends of several tasks of the turn are stored in the order of the calls.
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
        outings: Outings,
    ) -> None:
        super().__init__(
            session_id, author, store=store, handle=handle, lock=lock, hooks=hooks, on_takeover=on_takeover
        )
        self._outings = outings

    @asynccontextmanager
    async def released(self) -> AsyncGenerator[Prompt, None]:
        """Let go of the write lock inside the block, and take it back behind the fence.

        What the transcript holds is proven before the lock goes, and proven again when it is back: owned writes of
        others are fine, and in `prompt.changes`; anything else is a takeover. What was staged is stored then, or
        salvaged. An exception out of the block always wins: the lock is taken back all the same, what was staged is
        salvaged, and a failure there is a note of the exception and raised by the next use.

        Raises:
            TranscriptTakeover, StaleTurn: somebody else changed the transcript.
            TranscriptBusy: the lock was not to be had again within `lock_timeout`; later appends try once more.
            TranscriptReentry: it is released already.

        A `TranscriptMonitor` may cancel the task inside the block when it sees an unowned edit; that is a
        `TranscriptTakeover` too, found at `released`.
        """
        prompt = Prompt()
        try:
            await self._finish(self._go_out(prompt))
        except asyncio.CancelledError as error:
            if self._prompt is prompt:  # cancelled on the way out, which was gone to its end
                await self._after_an_exception(prompt, error)
            raise
        outing = Outing(self.path, self._author.turn, can_be_called=self._on_takeover == "raise")
        try:
            with self._outings.out(self.id, outing):
                yield prompt
        except BaseException as error:
            found = outing.end(error)
            if found is not None:
                raise await self._finish(self._called_back(prompt, found)) from None
            await self._after_an_exception(prompt, error)
            raise
        outing.end(None)
        await self._finish(self._come_back(prompt))

    async def _go_out(self, prompt: Prompt) -> None:
        self._require_outside("a release inside owned_write or on_takeover")
        async with self._order:
            if self._phase is Phase.OUT:
                raise TranscriptReentry(self.path, asked="a second release")
            self._require_usable()
            if self._phase is Phase.ADRIFT:
                await self._lock.take()
                self._phase = Phase.HELD
            await self._prove("release", (), content=True)
            await self._lock.let_go()
            self._phase, self._prompt = Phase.OUT, prompt
        if self._hooks.wants(PromptReleased):
            self._hooks.emit(PromptReleased(path=self.path, session_id=self.id, turn=self._author.turn))

    async def _come_back(self, prompt: Prompt) -> None:
        lines = prompt.close()
        async with self._order:
            if self._phase is Phase.CLOSED:
                raise await self._refused(self._ended(), lines)
            try:
                await self._lock.take()
            except TranscriptError as error:
                salvaged = await rescue(self._store, self.id, lines, self._author, reason=error)
                if salvaged:
                    error.add_note(f"what was staged is in {salvaged}")
                self._phase, self._prompt = Phase.ADRIFT, None
                raise
            self._phase, self._prompt = Phase.HELD, None
            if self._takeover is not None:
                raise await self._refused(self._takeover, lines)
            await self._prove("return", lines, content=True, prompt=prompt)
            if lines:
                await self._write("return", lines)
        if self._hooks.wants(PromptReacquired):
            changes = len(prompt.changes)
            event = PromptReacquired(path=self.path, session_id=self.id, turn=self._author.turn, changes=changes)
            self._hooks.emit(event)

    async def _called_back(self, prompt: Prompt, found: Finding) -> TranscriptError:
        """Take the lock back without going on; what the fence finds says more than what a monitor has seen."""
        lines, failure = prompt.close(), ""
        async with self._order:
            try:
                await self._lock.take()
                self._phase = Phase.HELD
                await self._handle.prove(self._author, content=True)
            except UnownedEdit as edit:
                found = edit.finding
            except TranscriptError as error:
                self._phase = Phase.HELD if self._lock.held else Phase.ADRIFT
                failure = f"the way back to {self.path} failed: {error}"
            self._prompt = None
            if self._takeover is not None:
                await rescue(self._store, self.id, lines, self._author, reason=self._takeover)
                return self._takeover
            taken = await self._taken_over(found, "released", lines)
        if failure:
            taken.add_note(failure)
        return taken

    async def _after_an_exception(self, prompt: Prompt, error: BaseException) -> None:
        async def salvage_and_return() -> None:
            lines = prompt.close()
            salvaged = await rescue(self._store, self.id, lines, self._author, reason=error)
            if salvaged:
                error.add_note(f"what was staged is in {salvaged}")
            try:
                await self._come_back(prompt)
            except Exception as failure:  # noqa: BLE001  told by the next use
                self._failure = failure
                error.add_note(f"the way back to {self.path} failed: {failure}")

        try:
            await self._finish(salvage_and_return())
        except asyncio.CancelledError as cancelled:
            if not isinstance(error, asyncio.CancelledError):
                raise cancelled from error
