"""The functions in the database do what the steps in Python do: random steps on both, compared one by one."""

# pyright: reportPrivateUsage=false

import asyncio
import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from support.postgresql import PostgresqlDatabase
from turnlane.clock import Clock
from turnlane.engines import Alive, Ask, Draining, End, Engine, Granted, Note, Queued, Told
from turnlane.engines.memory import MemoryEngine, MemoryLanes
from turnlane.engines.postgresql import PostgresqlEngine

KEYS = ("k", "ü\ud800", "\1\0")
PATIENCE = 10.0  # seconds for a note that has to come
WORKERS = 3
OFTEN = 0.7


@dataclass
class Place:
    """One place that engines share, and what its workers were told. Mutable: all of it."""

    engines: list[Engine] = field(default_factory=list[Engine])
    told: list[list[Note]] = field(default_factory=list[list[Note]])
    tokens: dict[str, int] = field(default_factory=dict[str, int])
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, engine: Engine, worker: str) -> None:
        notes: list[Note] = []

        def tell(note: Told) -> None:
            assert not isinstance(note, Draining)
            notes.append(note)
            self.news.set()

        await engine.open(worker, tell)
        self.engines.append(engine)
        self.told.append(notes)

    async def heard(self, counts: list[int]) -> None:
        """Wait until each worker was told so much: the server may answer before it has looked for what was notified."""
        async with asyncio.timeout(PATIENCE):
            while any(len(notes) < count for notes, count in zip(self.told, counts, strict=True)):
                self.news.clear()
                await self.news.wait()

    async def all_told(self) -> list[list[Note]]:
        """Return what was told since the last time, without what differs: order between keys is that of arrival."""
        for engine in self.engines:
            if isinstance(engine, PostgresqlEngine):
                await heard(engine)
        found = [[self.plain(note) for note in notes] for notes in self.told]
        for notes in self.told:
            notes.clear()
        return found

    def plain(self, answer: Any) -> Any:
        """Return an answer without its token, which has to grow, and times."""
        if isinstance(answer, Granted):
            last = self.tokens.get(answer.key, 0)
            assert answer.token >= last, f"token {answer.token} of {answer.key!r} after {last}"
            self.tokens[answer.key] = answer.token
            return replace(answer, token=0)
        if isinstance(answer, Queued):
            return Queued(answer.ahead)
        if isinstance(answer, list):
            return [self.plain(each) for each in answer]  # pyright: ignore[reportUnknownVariableType]
        return answer


async def heard(engine: PostgresqlEngine) -> None:
    """Return when all that was notified before is heard: the connection that listens answers in order."""
    listener = engine._listener
    assert listener is not None
    connection = listener._connection
    assert connection is not None
    await connection.execute("SELECT 1")


class LooksWhenTold(PostgresqlEngine):
    """Looks for nothing by itself: what is found that way may be told a second time."""

    def _look_in(self, seconds: float) -> None:
        """Do nothing."""


class Programme:
    """Steps by chance; who has which lane in `shared` leaves it more often than others. Mutable: all of it."""

    def __init__(self, seed: int, shared: MemoryLanes) -> None:
        self.random = random.Random(seed)
        self.shared = shared
        self.tickets: list[tuple[int, str, str]] = []

    def step(self) -> tuple[int, str, tuple[Any, ...], dict[str, Any]]:
        """Return a worker, a method and its arguments."""
        chance, some = self.random, self.random.choice
        kind = chance.choices(
            ("acquire", "again", "leave", "settle", "interrupt", "pause", "renew", "look", "promote"),
            (12, 2, 11, 4, 1, 1, 3, 1, 1),
        )[0]
        worker, key = chance.randrange(WORKERS), some(KEYS)
        if kind in ("again", "leave", "settle", "renew") and not self.tickets:
            kind = "acquire"
        if kind == "acquire":
            ask = self.ask()
            self.tickets.append((worker, key, ask.ticket))
            return worker, "acquire", (key, ask), {}
        if kind in ("again", "leave"):
            worker, key, ticket = some(self.tickets[-12:])
            lane = self.shared.lanes.get(some(KEYS))
            if lane is not None and lane.held is not None and chance.random() < OFTEN:
                worker, key, ticket = next(each for each in self.tickets if each[2] == lane.held.ticket)
            if kind == "again":
                return worker, "acquire", (key, Ask(ticket=ticket)), {}
            how = {"owes": chance.random() < 0.2, "scatter": chance.random() < 0.3}
            return worker, "leave", (key, ticket), how
        if kind == "settle":
            worker, key, ticket = some(self.tickets[-12:])
            lane = self.shared.lanes.get(key)
            ticket = ticket if lane is None or lane.held is None else lane.held.ticket
            others = [other for _, there, other in self.tickets[-12:] if there == key and other != ticket]
            hows: Any = ("coalesced", "steered", "shared")
            ends = [End(other, some(hows), b"\0result") for other in others if chance.random() < 0.4]
            return worker, "settle", (key, ticket, ends), {}
        if kind == "renew":
            mine = chance.randrange(WORKERS)
            alive = [Alive(there, ticket) for owner, there, ticket in self.tickets[-15:] if owner == mine]
            return mine, "renew", (alive,), {}
        rest: dict[str, tuple[int, str, tuple[Any, ...], dict[str, Any]]] = {
            "interrupt": (worker, "interrupt", (key,), {"grace": 1.5}),
            "pause": (worker, "pause", (key, chance.random() < 0.3), {}),
            "look": (worker, "look", (), {}),
            "promote": (worker, "leave", (key, ""), {}),
        }
        return rest[kind]

    def ask(self) -> Ask:
        chance, some = self.random, self.random.choice
        ask = Ask(ticket=f"t{len(self.tickets)}", payload=some((b"", b"m", b"\xff" * 40)))
        if chance.random() < 0.3:
            ask = replace(ask, room=some((0, 1, 3, 3)))
        if chance.random() < 0.5:
            tagged = replace(ask, tag=some(("a", "a", "b")), most=some((None, 2, 3)))
            overflow: Any = some(("refuse", "oldest"))
            ask = replace(tagged, overflow=overflow, window=1000.0 if chance.random() < 0.06 else 0.0)
        elif chance.random() < 0.15:
            over: Any = some(("interrupt", "rollback"))
            ask = replace(ask, over=over, grace=2.5)
        elif chance.random() < 0.3:
            ask = replace(ask, steer=True, whom="álice", payload=b"offer")
        return ask


async def compare(postgresql: PostgresqlDatabase, seed: int, steps: int) -> None:
    url, shared = postgresql.new_url(), MemoryLanes()
    programme = Programme(seed, shared)
    model, real = Place(), Place()
    for number in range(WORKERS):
        await model.open(MemoryEngine(shared, clock=Clock()), f"w{number}")
        await real.open(LooksWhenTold(url, lease=120.0), f"w{number}")
    try:
        for number in range(steps):
            worker, method, values, named = programme.step()
            what = f"--seed={seed}, step {number}: worker {worker} {method} {values} {named}"
            answers = [
                place.plain(await getattr(place.engines[worker], method)(*values, **named)) for place in (model, real)
            ]
            if method == "look":
                answers = [
                    [
                        (
                            lane.key,
                            lane.holder and lane.holder.ticket,
                            [each.ticket for each in lane.waiting],
                            lane.paused,
                        )
                        for lane in views
                    ]
                    for views in answers
                ]
            assert answers[1] == answers[0], what
            wanted = await model.all_told()
            await real.heard([len(notes) for notes in wanted])
            assert await real.all_told() == wanted, what
    finally:
        for engine in real.engines:
            await engine.aclose()


@pytest.mark.timeout(600)
async def test_random_steps_have_the_same_answers_and_notes(
    postgresql: PostgresqlDatabase, seed: int, long_form: bool
) -> None:
    """Of three workers on three lanes, until the programme ends; the first difference names its step."""
    print(f"--seed={seed}")
    for number in range(30 if long_form else 3):
        await compare(postgresql, seed + number, 1500 if long_form else 400)
