"""Every duplicate store keeps the contract, and the suite that says so can fail."""

import asyncio
from pathlib import Path

import pytest

from turnlane.duplicates import Claim, DuplicateStore, MemoryDuplicateStore, MessageRecord, SqliteDuplicateStore
from turnlane.testing import duplicate_store_suite
from turnlane.testing.duplicate_store_suite import CHECKS, Check, SuiteFailure


def names(check: object) -> str:
    return getattr(check, "__name__", repr(check))


@pytest.mark.parametrize("check", CHECKS, ids=names)
async def test_the_memory_store_keeps_the_contract(check: Check) -> None:
    """Each promise holds for messages remembered in this process."""
    async with MemoryDuplicateStore() as store:
        await check(store)


@pytest.mark.parametrize("check", CHECKS, ids=names)
async def test_the_sqlite_store_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    """Each promise holds for messages remembered in a file."""
    async with SqliteDuplicateStore(tmp_path / "duplicates.db") as store:
        await check(store)


def test_every_check_is_in_the_suite() -> None:
    """No check is written and then forgotten in the tuple third parties run."""
    written = {
        name
        for name, value in vars(duplicate_store_suite).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == duplicate_store_suite.__name__
    }
    assert written - {"SuiteFailure"} == {names(check) for check in CHECKS}


class LooksThenWrites(SqliteDuplicateStore):
    """Reads, lets go, and writes, here when all who came together have read: all of them win."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._looking, self._have_looked = 0, asyncio.Event()

    async def claim(
        self, message: str, record: MessageRecord, *, replaces: MessageRecord | None = None, anew: bool = False
    ) -> Claim:
        self._looking += 1
        found = await self.read(message)
        self._looking -= 1
        if not self._looking:
            self._have_looked.set()
        await self._have_looked.wait()
        if found is not None and not anew and replaces is None:
            return Claim(found, False)
        return await super().claim(message, record, replaces=replaces, anew=True)


class ReplacesWhatHasChanged(MemoryDuplicateStore):
    """Compares the run and not how far it has come."""

    async def claim(
        self, message: str, record: MessageRecord, *, replaces: MessageRecord | None = None, anew: bool = False
    ) -> Claim:
        found = await self.read(message)
        same = found is not None and replaces is not None and found.run == replaces.run
        return await super().claim(message, record, replaces=replaces, anew=anew or same)


class BeginsTwice(MemoryDuplicateStore):
    """Lets a run begin that has begun."""

    async def begin(self, message: str, run: str) -> bool:
        found = await self.read(message)
        return await super().begin(message, run) or (found is not None and found.run == run)


class BeginsAnybody(MemoryDuplicateStore):
    """Does not ask whose the message is."""

    async def begin(self, message: str, run: str) -> bool:
        found = await self.read(message)
        return found is not None and await super().begin(message, found.run)


class FinishesTwice(MemoryDuplicateStore):
    """The last end counts instead of the first."""

    async def finish(self, message: str, record: MessageRecord, *, at: float, limit: int) -> bool:
        found = await self.read(message)
        if found is not None and found.is_finished and found.run == record.run:
            await super().claim(message, record, anew=True)
            return True
        return await super().finish(message, record, at=at, limit=limit)


class FreesWhatHasFinished(MemoryDuplicateStore):
    """Forgets an answer."""

    async def free(self, message: str, run: str, *, restores: MessageRecord | None = None) -> None:
        found = await self.read(message)
        if found is not None and found.is_finished and found.run == run:
            self._records.pop(message)
            self._finished.pop(message)
        await super().free(message, run, restores=restores)


class Unbounded(MemoryDuplicateStore):
    """Keeps all there ever were."""

    def _drop(self, at: float, limit: int) -> None:
        pass


class DropsWhatRuns(MemoryDuplicateStore):
    """Makes room at the cost of a message that is being answered."""

    def _drop(self, at: float, limit: int) -> None:
        while len(self._records) > limit:
            first = next(iter(self._records))
            del self._records[first]
            self._finished.pop(first, None)


class PutsNothingBack(MemoryDuplicateStore):
    """Forgets who was there before."""

    async def free(self, message: str, run: str, *, restores: MessageRecord | None = None) -> None:
        await super().free(message, run)


BROKEN: tuple[tuple[type[DuplicateStore], Check], ...] = (
    (LooksThenWrites, duplicate_store_suite.one_of_many_claims_wins),
    (ReplacesWhatHasChanged, duplicate_store_suite.one_of_many_replacements_wins),
    (BeginsTwice, duplicate_store_suite.a_run_begins_once),
    (BeginsAnybody, duplicate_store_suite.what_was_taken_over_does_not_begin),
    (FinishesTwice, duplicate_store_suite.the_first_end_stands),
    (FreesWhatHasFinished, duplicate_store_suite.the_first_end_stands),
    (Unbounded, duplicate_store_suite.the_limit_holds_over_many),
    (DropsWhatRuns, duplicate_store_suite.the_first_to_finish_go_first),
    (PutsNothingBack, duplicate_store_suite.free_puts_back_what_it_is_given),
)


@pytest.mark.parametrize(("broken", "check"), BROKEN, ids=names)
async def test_the_suite_catches_a_broken_store(broken: type[DuplicateStore], check: Check, tmp_path: Path) -> None:
    """Negative control: a store that breaks a promise fails the check of that promise."""
    store = LooksThenWrites(tmp_path / "duplicates.db") if broken is LooksThenWrites else broken()
    async with store:
        with pytest.raises(SuiteFailure):
            await check(store)
