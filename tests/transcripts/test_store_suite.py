"""The conformance suite finds a store that breaks a promise."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.transcripts_places import SqlitePlace
from turnlane.testing import transcript_store_suite
from turnlane.testing.transcript_store_suite import (
    SuiteFailure,
    TranscriptStoreSuite,
    _content,
    _endings,
    _fences,
    _locks,
    _takeovers,
)
from turnlane.transcripts import Author, Changes, Fence, Finding, TranscriptHandle, TranscriptStore
from turnlane.transcripts.contract import Keep
from turnlane.transcripts.record import State


class WrappedHandle(TranscriptHandle):
    """Passes everything on to another handle; each flaw overrides what it breaks."""

    def __init__(self, inner: TranscriptHandle) -> None:
        self.inner = inner
        self.path = inner.path

    @property
    def fence(self) -> Fence:
        return self.inner.fence

    async def lock(self, timeout: float) -> None:
        await self.inner.lock(timeout)

    async def unlock(self) -> None:
        await self.inner.unlock()

    async def load(self, author: Author, *, adopt: bool) -> tuple[list[dict[str, Any]], Finding | None]:
        return await self.inner.load(author, adopt=adopt)

    async def join(self, author: Author) -> None:
        await self.inner.join(author)

    async def prove(self, author: Author, *, content: bool) -> Changes:
        return await self.inner.prove(author, content=content)

    async def append(self, lines: Sequence[bytes], author: Author) -> None:
        await self.inner.append(lines, author)

    async def rollback(self, to: Fence, author: Author, *, keep: Keep) -> tuple[bytes, ...]:
        return await self.inner.rollback(to, author, keep=keep)

    async def delete(self, author: Author, *, at: float) -> None:
        await self.inner.delete(author, at=at)

    async def aclose(self) -> None:
        await self.inner.aclose()


class WrappedStore(TranscriptStore):
    """Passes everything on to another store, with handles of a kind."""

    handle: type[WrappedHandle] = WrappedHandle

    def __init__(self, inner: TranscriptStore) -> None:
        self.inner = inner
        self.where = inner.where

    async def attach(self, session_id: str) -> TranscriptHandle:
        return self.handle(await self.inner.attach(session_id))

    async def read(self, session_id: str, last: int | None) -> tuple[dict[str, Any], ...]:
        return await self.inner.read(session_id, last)

    async def salvage(self, session_id: str, lines: Sequence[bytes], author: Author, *, reason: str) -> str:
        return await self.inner.salvage(session_id, lines, author, reason=reason)

    async def list(self) -> tuple[str, ...]:
        return await self.inner.list()

    async def sweep(self, before: float) -> int:
        return await self.inner.sweep(before)

    async def aclose(self) -> None:
        await self.inner.aclose()


class ReadsTheOldest(WrappedStore):
    async def read(self, session_id: str, last: int | None) -> tuple[dict[str, Any], ...]:
        return (await self.inner.read(session_id, None))[:last]


class FoldsCase(WrappedStore):
    async def attach(self, session_id: str) -> TranscriptHandle:
        return await super().attach(session_id.lower())


class ForgetsSalvage(WrappedStore):
    async def salvage(self, session_id: str, lines: Sequence[bytes], author: Author, *, reason: str) -> str:
        return "nowhere"


class NeverSweeps(WrappedStore):
    async def sweep(self, before: float) -> int:
        return 0


class WithoutLock(WrappedHandle):
    async def lock(self, timeout: float) -> None:
        pass


class WithoutTokens(WrappedHandle):
    async def prove(self, author: Author, *, content: bool) -> Changes:
        return await self.inner.prove(Author(), content=content)


class WithoutProof(WrappedHandle):
    """Takes what is there for what it has proven: everything foreign is laundered."""

    async def prove(self, author: Author, *, content: bool) -> Changes:
        await self.inner.load(author, adopt=True)
        return Changes()


class JoinsAnything(WrappedHandle):
    async def join(self, author: Author) -> None:
        await self.inner.load(author, adopt=True)


class AdoptsSilently(WrappedHandle):
    async def load(self, author: Author, *, adopt: bool) -> tuple[list[dict[str, Any]], Finding | None]:
        return (await self.inner.load(author, adopt=True))[0], None


class ForgetsToKeep(WrappedHandle):
    async def rollback(self, to: Fence, author: Author, *, keep: Keep) -> tuple[bytes, ...]:
        async def forget(_: Sequence[bytes]) -> None:
            pass

        return await self.inner.rollback(to, author, keep=forget)


class CutsForDeleting(WrappedHandle):
    async def delete(self, author: Author, *, at: float) -> None:
        async def forget(_: Sequence[bytes]) -> None:
            pass

        await self.inner.load(author, adopt=True)
        await self.inner.rollback(Fence(0, State()), author, keep=forget)


class PlaceOf(SqlitePlace):
    """A place whose stores have a flaw."""

    def __init__(self, path: Path, flaw: type[WrappedStore] | type[WrappedHandle]) -> None:
        super().__init__(path)
        self.flaw = flaw

    def make_store(self) -> TranscriptStore:
        if issubclass(self.flaw, WrappedStore):
            return self.flaw(super().make_store())
        store = WrappedStore(super().make_store())
        store.handle = self.flaw
        return store


@pytest.mark.parametrize(
    ("flaw", "check"),
    [
        (ReadsTheOldest, _content.entries_are_read_in_the_order_of_the_appends),
        (FoldsCase, _content.different_ids_are_different_transcripts),
        (ForgetsSalvage, _content.what_is_salvaged_is_kept),
        (ForgetsSalvage, _takeovers.an_edit_during_a_release_is_a_takeover),
        (WithoutTokens, _fences.a_stale_token_is_refused),
        (WithoutTokens, _fences.a_turn_that_was_overtaken_while_it_was_out_is_refused),
        (WithoutProof, _fences.owned_changes_of_others_are_listed),
        (WithoutProof, _takeovers.an_edit_behind_a_fence_is_an_unowned_edit),
        (WithoutProof, _takeovers.an_adoption_is_none_for_who_was_out),
        (JoinsAnything, _takeovers.a_peer_is_refused_before_it_writes),
        (AdoptsSilently, _takeovers.an_edit_between_turns_is_flagged_and_adopted),
        (AdoptsSilently, _takeovers.an_edit_between_turns_can_be_refused),
        (ForgetsToKeep, _endings.rolling_back_takes_away_what_is_behind_a_fence),
        (CutsForDeleting, _endings.who_had_it_open_is_told),
        (CutsForDeleting, _endings.a_deleted_transcript_is_gone),
        (NeverSweeps, _endings.tombstones_are_swept_when_their_time_is_over),
        (WithoutLock, _locks.who_is_locked_out_is_told_busy),
        (WithoutLock, _locks.contention_on_the_way_back_is_busy),
    ],
    ids=lambda found: getattr(found, "__name__", repr(found)),
)
async def test_a_flaw_is_found(
    flaw: type[WrappedStore] | type[WrappedHandle], check: transcript_store_suite.Check, tmp_path: Path
) -> None:
    """Negative control: a store that breaks a promise fails the check of that promise."""
    suite = TranscriptStoreSuite(lambda: PlaceOf(tmp_path / "transcripts.db", flaw))
    with pytest.raises(SuiteFailure):
        await suite.run(check)


@pytest.mark.parametrize("check", TranscriptStoreSuite.checks, ids=lambda check: getattr(check, "__name__", ""))
async def test_what_only_passes_on_is_no_flaw(check: transcript_store_suite.Check, tmp_path: Path) -> None:
    """The stores above fail for their flaw, not for being wrapped."""
    await TranscriptStoreSuite(lambda: PlaceOf(tmp_path / "transcripts.db", WrappedHandle)).run(check)


def test_every_check_is_in_the_suite() -> None:
    """No check is written and then forgotten in the tuple third parties run."""
    modules: tuple[ModuleType, ...] = (_content, _endings, _fences, _locks, _takeovers)
    written: set[Callable[..., object]] = {
        value
        for module in modules
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    }
    assert written == set(TranscriptStoreSuite.checks)
    assert len(TranscriptStoreSuite.checks) == len(written)
