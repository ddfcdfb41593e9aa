"""The suite of engines, over each of them, and over engines that break it."""

from pathlib import Path

import pytest

from engines.places import PLACES, Place
from turnlane.engines import Answer, Ask, Draining, Engine, Granted
from turnlane.engines.memory import MemoryEngine, MemoryLanes
from turnlane.testing.engine_suite import CHECKS, Check, SuiteFailure


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_every_engine_keeps_what_is_promised(tmp_path: Path, place: Place, check: Check) -> None:
    """Each promise, on a place of its own."""
    await check(place(tmp_path))


class Broken(MemoryEngine):
    """Keeps what is promised, but for what a subclass does."""


class GrantsToAll(Broken):
    """Whoever comes has the lane."""

    async def acquire(self, key: str, ask: Ask) -> Answer:
        await super().acquire(key, ask)
        return Granted(key, ask.ticket, 1)


class NeverPassesOn(Broken):
    """Who leaves keeps the lane."""

    async def leave(self, key: str, ticket: str, *, owes: bool | None = False, scatter: bool = False) -> None:
        pass


class ForgetsTheLine(Broken):
    """What waits when the lane is let go is not granted it."""

    async def leave(self, key: str, ticket: str, *, owes: bool | None = False, scatter: bool = False) -> None:
        self.shared.lines.pop(key, None)
        await super().leave(key, ticket, owes=owes, scatter=scatter)


class OwesNothing(Broken):
    """What was to be taken back is forgotten."""

    async def leave(self, key: str, ticket: str, *, owes: bool | None = False, scatter: bool = False) -> None:
        await super().leave(key, ticket, scatter=scatter)


class NeverScatters(Broken):
    """Those that can not be merged stay together."""

    async def leave(self, key: str, ticket: str, *, owes: bool | None = False, scatter: bool = False) -> None:
        await super().leave(key, ticket, owes=owes)


class NeverPauses(Broken):
    """A pause is heard by nobody."""

    async def pause(self, key: str | None, paused: bool) -> None:
        if key is None:
            await super().pause(key, paused)


class DrainsOnlyItself(Broken):
    """The other workers are not told."""

    async def pause(self, key: str | None, paused: bool) -> None:
        if key is None:
            self.shared.workers[self._worker](Draining(paused))
        else:
            await super().pause(key, paused)


class InterruptsNobody(Broken):
    """An operator is not heard."""

    async def interrupt(self, key: str, *, grace: float) -> bool:
        return False


class StaysWhenItIsClosed(Broken):
    """Who is gone keeps its lanes."""

    async def aclose(self) -> None:
        self._worker = ""


@pytest.mark.parametrize("broken", Broken.__subclasses__(), ids=lambda broken: broken.__name__)
async def test_an_engine_that_breaks_a_promise_is_found(broken: type[Broken], monkeypatch: pytest.MonkeyPatch) -> None:
    """At least one check fails."""
    monkeypatch.setattr("turnlane.testing.engine_suite.PATIENCE", 0.05)
    found: list[str] = []
    for check in CHECKS:
        shared = MemoryLanes()

        def make(shared: MemoryLanes = shared) -> Engine:
            return broken(shared)

        try:
            await check(make)
        except SuiteFailure:
            found.append(check.__name__)
    assert found
