"""Proving and writing behind a fence, and what is done when the fence does not hold."""

import json
import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from turnlane.errors import StaleTurn, TranscriptError, TranscriptReentry, TranscriptTakeover, TranscriptUnavailable
from turnlane.hooks import Hooks, TakeoverFound, TranscriptAdopted, TurnRolledBack
from turnlane.transcripts.contract import Author, Changes, Fence, TranscriptHandle, TranscriptStore, UnownedEdit
from turnlane.transcripts.finding import Finding
from turnlane.transcripts.locking import WriteLock
from turnlane.transcripts.prompt import Prompt
from turnlane.transcripts.takeover import TakeoverPolicy, accepts, rescue, takeover_of, told_again

__all__ = ("Fenced",)

logger: logging.Logger = logging.getLogger("turnlane.transcripts")

_insides: ContextVar[tuple["Fenced", ...]] = ContextVar("turnlane_inside_transcripts", default=())


class Fenced:
    """The entries of one transcript, and its fence; every method needs the lock.

    Mutable: `_entries` and `_told` (the same as it was told last), `_takeover` (sticky), `_others` (how much code of
    others runs that must not use it).
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
        self.id: str = session_id
        self.path: str = handle.path
        self._author = author
        self._store = store
        self._handle = handle
        self._lock = lock
        self._hooks = hooks
        self._on_takeover: TakeoverPolicy = on_takeover
        self._entries: list[dict[str, Any]] = []
        self._told: tuple[dict[str, Any], ...] | None = None
        self._takeover: TranscriptTakeover | StaleTurn | None = None
        self._others = 0

    async def _prove(
        self, phase: str, lines: tuple[bytes, ...], *, content: bool, prompt: Prompt | None = None
    ) -> None:
        try:
            changes = await self._handle.prove(self._author, content=content)
        except UnownedEdit as edit:
            if await self._accepts(edit.finding, phase, lines):
                return
            raise await self._taken_over(edit.finding, phase, lines) from None
        except TranscriptError as error:
            raise await self._refused(error, lines) from error.__cause__
        except Exception as error:
            await self._keep(error, lines)
            raise
        self._take_in(changes)
        if prompt is not None:
            prompt.note(changes)

    def _take_in(self, changes: Changes) -> None:
        if changes.rewritten:
            self._entries, self._told = [], None
        self._entries += changes.entries

    async def _write(self, phase: str, lines: tuple[bytes, ...]) -> None:
        try:
            await self._handle.append(lines, self._author)
        except Exception as error:  # noqa: BLE001  told there
            await self._not_written(phase, lines, error)
        else:
            self._add(lines)

    async def _not_written(self, phase: str, lines: tuple[bytes, ...], error: Exception) -> None:
        """Say what became of a write that went wrong; return only where it was accepted, with what is there."""
        if isinstance(error, UnownedEdit):
            if not await self._accepts(error.finding, phase, lines):
                raise await self._taken_over(error.finding, phase, lines) from None
            missing = tuple(line for line in lines if json.loads(line) not in self._entries)
            await rescue(self._store, self.id, missing, self._author, reason=error)
            return
        if isinstance(error, TranscriptError):
            raise await self._refused(error, lines) from error.__cause__
        await self._keep(error, lines)
        raise error

    async def _keep(self, error: Exception, lines: tuple[bytes, ...]) -> None:
        salvaged = await rescue(self._store, self.id, lines, self._author, reason=error)
        if salvaged:
            error.add_note(f"what was to be stored is in {salvaged}")

    async def _go_back(self, to: Fence) -> int:
        """Take away what was appended behind `to`, once it is salvaged; return how many entries that were."""

        async def keep(lines: Sequence[bytes]) -> None:
            await self._store.salvage(self.id, lines, self._author, reason="it was rolled back")

        await self._prove("rollback", (), content=True)
        try:
            lines = await self._handle.rollback(to, self._author, keep=keep)
        except UnownedEdit as edit:
            raise await self._taken_over(edit.finding, "rollback", ()) from None
        except TranscriptError as error:
            raise await self._refused(error, ()) from error.__cause__
        if lines:
            self._entries, self._told = self._entries[: -len(lines)], None
        return len(lines)

    async def _take_back(self, of: str) -> int:
        """Take away what a turn has written, once it is salvaged; return how many entries that were."""
        salvaged: str | None = None

        async def keep(lines: Sequence[bytes]) -> None:
            nonlocal salvaged
            by = f" by turn {self._author.turn}" if self._author.turn else ""
            salvaged = await self._store.salvage(self.id, lines, Author(turn=of), reason=f"it was rolled back{by}")

        await self._prove("rollback", (), content=True)
        try:
            lines = await self._handle.take_out(of, self._author, keep=keep)
            if lines:
                self._entries, _ = await self._handle.load(self._author, adopt=False)
        except UnownedEdit as edit:
            raise await self._taken_over(edit.finding, "rollback", ()) from None
        except TranscriptError as error:
            raise await self._refused(error, ()) from error.__cause__
        if lines:
            self._told = None
            self._tell_taken_out(of, len(lines), salvaged)
        return len(lines)

    def _add(self, lines: tuple[bytes, ...]) -> None:
        """Add what was stored, as it is read back: whoever gave the entries may have changed them meanwhile."""
        self._entries += [json.loads(line) for line in lines]

    async def _taken_over(self, finding: Finding, phase: str, lines: tuple[bytes, ...]) -> TranscriptTakeover:
        error = takeover_of(finding, self._handle, self._author, phase=phase)
        return self._stopped(finding, phase, await rescue(self._store, self.id, lines, self._author, reason=error))

    def _stopped(self, finding: Finding, phase: str, salvaged: str | None) -> TranscriptTakeover:
        error = takeover_of(finding, self._handle, self._author, phase=phase, salvaged=salvaged)
        self._takeover = error
        if self._hooks.wants(TakeoverFound):
            self._hooks.emit(
                TakeoverFound(
                    path=self.path,
                    session_id=self.id,
                    turn=self._author.turn,
                    kind=finding.kind,
                    phase=phase,
                    offset=finding.offset,
                    line=finding.line,
                    salvaged=salvaged,
                )
            )
        return error

    async def _accepts(self, finding: Finding, phase: str, lines: tuple[bytes, ...]) -> bool:
        try:
            with self._inside():
                accepted = await accepts(
                    self._on_takeover,
                    takeover_of(finding, self._handle, self._author, phase=phase),
                    timeout=self._lock.timeout,
                )
        except BaseException as error:
            error.add_note(str(await self._taken_over(finding, phase, lines)))
            raise
        if accepted:
            try:
                loaded, adopted = await self._handle.load(self._author, adopt=True)
            except UnownedEdit as edit:
                raise await self._taken_over(edit.finding, phase, lines) from None
            except TranscriptError as error:
                raise await self._refused(error, lines) from error.__cause__
            self._entries, self._told = loaded, None
            self._tell_adopted(adopted or finding)
        return accepted

    @contextmanager
    def _inside(self) -> Generator[None, None, None]:
        """Run somebody else's code, which must not use this transcript: whatever it asked for would wait for it."""
        before = _insides.set((*_insides.get(), self))
        self._others += 1
        try:
            yield
        finally:
            self._others -= 1
            _insides.reset(before)

    def _require_outside(self, asked: str) -> None:
        """Raise TranscriptReentry in such code, and in the tasks it has started."""
        if self._others and any(one is self for one in _insides.get()):
            raise TranscriptReentry(self.path, asked=asked)

    async def _refused(self, error: TranscriptError, lines: tuple[bytes, ...]) -> TranscriptError:
        salvaged = await rescue(self._store, self.id, lines, self._author, reason=error)
        told = error
        if isinstance(error, StaleTurn):
            told = StaleTurn(error.path, token=error.token, highest=error.highest, salvaged=salvaged)
            self._takeover = told
        elif isinstance(error, TranscriptTakeover):
            told = told_again(error, salvaged)
        elif isinstance(error, TranscriptUnavailable):
            told = TranscriptUnavailable(error.path, operation=error.operation, reason=error.reason, salvaged=salvaged)
        elif salvaged:
            told.add_note(f"what was to be stored is in {salvaged}")
        if told is not error:
            for note in getattr(error, "__notes__", ()):
                told.add_note(note)
        return told

    def _tell_taken_out(self, of: str, entries: int, salvaged: str | None) -> None:
        logger.info("turn_rolled_back path=%s turn=%s entries=%d salvaged=%s", self.path, of, entries, salvaged)
        if self._hooks.wants(TurnRolledBack):
            event = TurnRolledBack(
                path=self.path,
                session_id=self.id,
                turn=self._author.turn,
                of=of,
                entries=entries,
                salvaged=salvaged,
            )
            self._hooks.emit(event)

    def _tell_adopted(self, finding: Finding) -> None:
        if self._hooks.wants(TranscriptAdopted):
            self._hooks.emit(
                TranscriptAdopted(path=self.path, session_id=self.id, turn=self._author.turn, kind=finding.kind)
            )
