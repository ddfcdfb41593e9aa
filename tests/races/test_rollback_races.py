"""Turns of one key that roll each other back, cancelled at any step: what those wrote is gone, and nothing else.

Runtime, sessions and files are the real ones; the loop's order and time are drawn.
"""

# pyright: reportPrivateUsage=false

import asyncio
import contextvars
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.lanes_invariants import broken_promises, leftovers
from support.seeded_loop import LoopClock, SeededLoop
from support.transcripts_scenes import salvaged_in, user
from turnlane import Enqueue, Interrupt, Lanes, Reject, Rollback, Runtime, Sessions, Turn, errors
from turnlane.lanes.endings import is_over
from turnlane.policies import Policy
from turnlane.transcripts import Transcripts

FOREVER = Enqueue(max_waiting=None, wait_timeout=None)
POLICIES: tuple[Policy, ...] = (
    FOREVER,
    FOREVER,
    Rollback(grace=0.0),
    Rollback(grace=0.5),
    Interrupt(grace=0.0),
    Reject(),
)


@dataclass(frozen=True)
class Visit:
    """One turn and what it does: how long before it arrives, its policy, seconds its model takes, how it is hurt."""

    number: int
    delay: int
    policy: Policy
    model: float
    swallows: bool
    cancelled_at: int | None


class Visits:
    """One run. `stored` are author and words of what the transcript must hold, `doomed` the turns to be taken back."""

    def __init__(self, directory: Path, loop: SeededLoop, visits: list[Visit]) -> None:
        clock = LoopClock(loop)
        self.lanes = Lanes(clock=clock, slow_after=None)
        self.transcripts = Transcripts(directory, trace_turns=True, clock=clock)
        self.runtime = Runtime(lanes=self.lanes, sessions=Sessions(), transcripts=self.transcripts)
        self.visits = visits
        self.stored: list[tuple[str, str]] = []
        self.doomed: set[str] = set()
        self.over: set[str] = set()
        self.path: Path | None = None
        self.outcomes: Counter[str] = Counter()

    async def main(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop)
        loop.after_step = self.look
        tasks = [loop.create_task(self.visit(visit), context=contextvars.Context()) for visit in self.visits]
        for visit, task in zip(self.visits, tasks, strict=True):
            if visit.cancelled_at is not None:
                loop.before(visit.cancelled_at, task.cancel)
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()
        async with self.runtime.turn("a", policy=FOREVER) as turn:
            await self.check(turn)
        assert leftovers(self.lanes) == []
        assert self.lanes.gate.debts == {}

    async def visit(self, visit: Visit) -> None:
        for _ in range(visit.delay):
            await asyncio.sleep(0)
        holder = self.lanes.gate.table.holders.get("a")
        if isinstance(visit.policy, Rollback) and holder is not None and not is_over(holder):
            self.doomed.add(holder.id)
        try:
            async with self.runtime.turn("a", policy=visit.policy) as turn:
                await self.check(turn)
                try:
                    await self.write(turn, visit)
                finally:
                    self.over.add(turn.id)
            self.outcomes["answered"] += 1
        except (errors.LaneError, asyncio.CancelledError) as error:
            self.outcomes[type(error).__name__] += 1
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None:
                task.uncancel()

    async def write(self, turn: Turn, visit: Visit) -> None:
        async with turn.open_transcript() as transcript:
            self.path = Path(transcript.path)
            await self.stores(turn.id, f"question {visit.number}", transcript.append)
            await self.stores(turn.id, f"answer {visit.number}", partial(self.answer, turn, visit))

    async def answer(self, turn: Turn, visit: Visit, entry: dict[str, str]) -> None:
        """Call the model; meanwhile somebody else writes."""
        async with turn.transcript.released() as prompt:
            await self.stores("peer", f"peer {visit.number}", partial(self.appended, turn))
            prompt.stage(entry)
            try:
                await asyncio.sleep(visit.model)
            except asyncio.CancelledError:
                if not visit.swallows:
                    raise
                await asyncio.sleep(0.1)

    async def appended(self, turn: Turn, entry: dict[str, str]) -> None:
        """As another process does: the turn's own transcripts would take it for the turn's."""
        assert turn.session is not None
        await Transcripts(self.transcripts.store).append(turn.session.id, entry)

    async def stores(self, author: str, words: str, store: Callable[[Any], Awaitable[None]]) -> None:
        """Store some words; where the task is cancelled meanwhile they may be stored or not, and are looked for."""
        try:
            await store(user(words))
        except BaseException:
            if words in self.words():
                self.stored.append((author, words))
            raise
        self.stored.append((author, words))

    def words(self) -> list[str]:
        if self.path is None or not self.path.exists():
            return []
        return [json.loads(line)["content"] for line in self.path.read_text().splitlines()]

    async def check(self, turn: Turn) -> None:
        """A turn begins: of those that were rolled back nothing is left, and of all others everything."""
        assert turn.running
        found = self.words()
        assert Counter(found) == Counter(words for author, words in self.stored if author not in self.doomed)
        gone = [words for author, words in self.stored if author in self.doomed]
        salvaged = [] if self.path is None else salvaged_in(self.path.parent)
        assert set(gone) <= set(salvaged), (gone, salvaged)

    def look(self) -> None:
        assert broken_promises(self.lanes.gate.table) == []


def draw(rng: random.Random) -> list[Visit]:
    return [
        Visit(
            number,
            delay=rng.randrange(25),
            policy=rng.choice(POLICIES),
            model=rng.choice((0.0, 1.0, 1.0, 3.0)),
            swallows=rng.random() < 0.2,
            cancelled_at=rng.randrange(1, 150) if rng.random() < 0.4 else None,
        )
        for number in range(rng.randint(2, 6))
    ]


def run(directory: Path, seed: str) -> Counter[str]:
    rng = random.Random(seed)
    visits = draw(rng)
    with SeededLoop(rng) as loop:
        one = Visits(directory, loop, visits)
        try:
            loop.run(one.main())
        except AssertionError as error:
            raise AssertionError(f"again: run(directory, {seed!r}): {visits}: {error}") from error
    return one.outcomes


@pytest.mark.timeout(3600)
def test_what_is_rolled_back_is_gone_before_the_next_turn_begins(tmp_path: Path, seed: int, long_form: bool) -> None:
    """Whoever is cancelled whenever; what nobody was there to take back is taken back by the turn after."""
    outcomes: Counter[str] = Counter()
    for number in range(20_000 if long_form else 150):
        outcomes += run(tmp_path / str(number), f"{seed}/{number}")
    assert {"answered", "TurnInterrupted", "CancelledError", "LaneBusy"} <= outcomes.keys()


def test_a_turn_that_takes_nothing_back_is_found(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exploration can fail."""

    async def take_nothing_back(*_: object) -> None:
        pass

    def explore() -> None:
        for number in range(200):
            run(tmp_path / str(number), f"{seed}/{number}")

    monkeypatch.setattr(Runtime, "_take_back", take_nothing_back)
    with pytest.raises(AssertionError, match="again: run"):
        explore()
