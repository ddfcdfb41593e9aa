"""Copies of messages whose tasks are cancelled, and whose clients leave, at every step of every drawn order."""

# The bugs are planted in the private side of what is tested.
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from races.duplicates_run import NAMED_MAIL, Copy, Mail, SlowDuplicates, draw_mail, run_mail
from races.exploration import Budget, Exploration, seeds_from
from races.runner import Finding
from races.traffic import Incident, incidents_at
from turnlane.asgi.once import Once
from turnlane.duplicates import Claim, Duplicates, DuplicateStore, MessageRecord, Run

MAIL: Exploration[Mail, Incident] = Exploration(run_mail, draw_mail, incidents_at)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMED_MAIL)
def test_messages_run_once_whoever_leaves_whenever(name: str, seed: int, long_form: bool) -> None:
    """At each step of the run each request is cancelled, and each client leaves."""
    assert MAIL.one(NAMED_MAIL[name], seeds_from(seed, 20 if long_form else 1)) > 100


@pytest.mark.timeout(300)
def test_drawn_messages_run_once_whoever_leaves_whenever(seed: int, long_form: bool) -> None:
    """Few copies, each incident; all settings."""
    budget = Budget(60.0 if long_form else 2.5)
    MAIL.drawn(seed, budget)
    assert budget.runs > 100


@pytest.mark.timeout(300)
def test_more_messages_run_once_when_several_leave(seed: int, long_form: bool) -> None:
    """Up to seven copies, and up to three incidents at drawn steps."""
    budget = Budget(60.0 if long_form else 1.5)
    MAIL.large(seed, budget)
    assert budget.runs > 100


class LooksThenWrites(SlowDuplicates):
    """Reads, lets others run, and writes."""

    async def claim(
        self, message: str, record: MessageRecord, *, replaces: MessageRecord | None = None, anew: bool = False
    ) -> Claim:
        found = await self.read(message)
        if found is not None and replaces is None:
            return Claim(found, False)
        return await super().claim(message, record, anew=True)


class BeginsAnyhow(LooksThenWrites):
    """Does not mind either whether the message is still whose it was."""

    async def begin(self, message: str, run: str) -> bool:
        await super().begin(message, run)
        return True


async def leave_nothing_unknown(self: Once) -> None:
    """Take every message without an answer for one that did not run."""
    run, self._run = self._run, None
    if run is not None:
        await self._duplicates.free(run)


async def leave_all_behind(self: Once) -> None:
    """Settle nothing."""


async def claim_without_cleaning(self: Duplicates, message: Any) -> Any:
    """Take a message, and leave it taken if that was cancelled."""
    await self._open()
    run = Run(message)
    self._here[run.id] = run
    record = await self._claimed(run)
    if record.run == run.id:
        return run
    self._forget(run)
    return record


def tell_nobody(self: Run) -> None:
    """Forget those who wait."""


async def not_finished(self: Duplicates, run: Run, *_: object) -> None:
    """Store the answer before the last part was made, and a little later."""
    self._forget(run)
    await asyncio.sleep(0)


class TestNegativeControls:
    """The exploration finds planted bugs."""

    def test_a_store_that_looks_and_then_writes_is_found(self, seed: int) -> None:
        """Two take one message."""

        def store(_: str) -> DuplicateStore:
            return BeginsAnyhow()

        exploration: Exploration[Mail, Incident] = Exploration(
            partial(run_mail, make_store=store), draw_mail, incidents_at
        )
        with pytest.raises(Finding, match="ran twice"):
            exploration.one(NAMED_MAIL["three copies, a slow store"], [seed])

    def test_a_claim_that_begin_does_not_prove_may_be_lost(self, seed: int) -> None:
        """The same store, with `begin` as it should be: nothing runs twice, but a message is left behind or refused."""
        runs: list[Mail] = []

        def run(mail: Mail, order: int, incidents: Sequence[Incident]) -> Any:
            runs.append(mail)
            return run_mail(mail, order, incidents, make_store=lambda _: LooksThenWrites())

        with pytest.raises(Finding) as caught:
            Exploration(run, draw_mail, incidents_at).one(NAMED_MAIL["three copies, a slow store"], [seed])
        assert "ran twice" not in str(caught.value)

    @pytest.mark.parametrize(
        ("where", "name", "bug", "mail"),
        [
            (Once, "leave", leave_nothing_unknown, "an app that gives up"),
            (Once, "leave", leave_all_behind, "three copies"),
            (Duplicates, "claim", claim_without_cleaning, "three copies, a slow store"),
            (Duplicates, "finish", not_finished, "three copies"),
            (Run, "tell", tell_nobody, "three copies"),
        ],
    )
    def test_a_planted_bug_is_found(
        self, where: Any, name: str, bug: Any, mail: str, seed: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In what claims, wakes, keeps and settles."""
        monkeypatch.setattr(where, name, bug)
        with pytest.raises(Finding):
            MAIL.one(NAMED_MAIL[mail], seeds_from(seed, 3))

    def test_the_scene_has_answers_and_copies(self) -> None:
        """The exploration is of something: without incidents all copies get one answer."""
        run_mail(Mail(tuple(Copy(delay=number) for number in range(5)), store="slow"), None)
