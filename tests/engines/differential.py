"""Random steps of several workers, done on an engine and on the one in memory: both must say and tell the same."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from turnlane.engines import Alive, Answer, Ask, End, Engine, Granted, Queued
from turnlane.engines.memory import MemoryEngine, MemoryLanes
from turnlane.testing import ManualClock
from turnlane.testing.engine_suite import Worker

__all__ = ("Differential",)

KEYS = ("a", "b")
WORKERS = 3


class Differential:
    """One history.

    Mutable: all of it.

    Args:
        make: makes engines that share a place, with a clock.
        seed: draws the steps.
    """

    def __init__(self, make: Callable[[ManualClock], Engine], seed: str) -> None:
        self._random = random.Random(seed)
        self._clock = ManualClock()
        shared = MemoryLanes()
        self._pairs = [
            (Worker(MemoryEngine(shared, clock=self._clock)), Worker(make(self._clock))) for _ in range(WORKERS)
        ]
        self._tickets: list[tuple[int, str, str]] = []  # worker, key, ticket
        self._tokens: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.history: list[str] = []

    async def run(self, steps: int) -> None:
        """Do so many steps.

        Raises:
            AssertionError: they differ; it says in what.
        """
        try:
            for model, real in self._pairs:
                real.name = model.name
                await model.engine.open(model.name, model.tell)
                await real.engine.open(real.name, real.tell)
            for _ in range(steps):
                await self._step()
            await self._end()
        finally:
            for model, real in self._pairs:
                await model.engine.aclose()
                await real.engine.aclose()

    async def _step(self) -> None:
        chance, number = self._random, self._random.randrange(WORKERS)
        self._clock.step_wall(chance.choice((-0.000_002, 0.0, 0.000_001, 0.000_001, 0.000_01)))
        key = chance.choice(KEYS)
        what = chance.choices(
            ("acquire", "again", "leave", "settle", "interrupt", "pause", "renew", "poke", "time"),
            weights=(30, 4, 30, 10, 3, 3, 8, 6, 6),
        )[0]
        mine = [ticket for worker, at, ticket in self._tickets if worker == number and at == key]
        if what == "time":
            self._clock.advance(chance.choice((0.01, 0.3, 1.0)))
            return
        if what == "acquire":
            ask = self._ask(f"{self._pairs[number][0].name}-{len(self.history)}")
            self._tickets.append((number, key, ask.ticket))
            await self._both(number, f"acquire {key} {ask}", lambda engine: engine.acquire(key, ask))
        elif what == "again" and mine:
            ask = Ask(ticket=chance.choice(mine), again=chance.random() < 0.5)
            await self._both(number, f"again {key} {ask.ticket}", lambda engine: engine.acquire(key, ask))
        elif what == "leave" and mine:
            ticket, owes = chance.choice(mine[-3:]), chance.choice((False, False, False, True, None))
            scatter = chance.random() < 0.3
            self._tickets.remove((number, key, ticket))
            told = f"leave {key} {ticket} owes={owes} scatter={scatter}"
            await self._both(number, told, lambda engine: engine.leave(key, ticket, owes=owes, scatter=scatter))
        elif what == "settle" and mine:
            ends = [
                End(ticket, chance.choice(("coalesced", "steered", "shared")), b"r" * chance.randrange(2))
                for _, at, ticket in chance.sample(self._tickets, min(2, len(self._tickets)))
                if at == key
            ]
            ticket = chance.choice(mine)
            await self._both(number, f"settle {key} {ends}", lambda engine: engine.settle(key, ticket, ends))
        elif what == "interrupt":
            await self._both(number, f"interrupt {key}", lambda engine: engine.interrupt(key, grace=1.0))
        elif what == "pause":
            paused = chance.random() < 0.4
            await self._both(number, f"pause {key} {paused}", lambda engine: engine.pause(key, paused))
        elif what == "renew" and mine:
            alive = [Alive(key, ticket) for ticket in mine]
            await self._both(number, f"renew {mine}", lambda engine: engine.renew(alive))
        elif what == "poke":
            await self._both(number, f"poke {key}", lambda engine: engine.leave(key, ""))

    def _ask(self, ticket: str) -> Ask:
        chance = self._random
        ask = Ask(ticket=ticket, payload=b"m" * chance.randrange(3), whom=chance.choice(("", "alice")))
        kind = chance.random()
        if kind < 0.3:
            return replace(ask, room=chance.choice((0, 1, 2, None)))
        if kind < 0.45:
            return replace(ask, over=chance.choice(("interrupt", "rollback")), grace=1.0)
        if kind < 0.6:
            return replace(ask, steer=True)
        return replace(
            ask,
            tag=chance.choice(("t", "u")),
            window=chance.choice((0.0, 0.0, 0.5)),
            most=chance.choice((None, 2, 3)),
            overflow=chance.choice(("refuse", "oldest")),
        )

    async def _both(self, number: int, what: str, do: Callable[[Engine], Any]) -> None:
        self.history.append(f"{number}: {what}")
        model, real = self._pairs[number]
        said = [self._plain(await do(each.engine), side) for side, each in enumerate((model, real))]
        assert said[0] == said[1], f"{self._told()}\nthe model says {said[0]}\nthe engine says {said[1]}"
        await self._compare_notes()

    async def _compare_notes(self) -> None:
        for model, real in self._pairs:
            await real.heard(len(model.notes))
            wanted = sorted(map(repr, (self._plain(note, 0) for note in model.notes)))
            found = sorted(map(repr, (self._plain(note, 1) for note in real.notes)))
            assert wanted == found, f"{self._told()}\nthe model tells {wanted}\nthe engine tells {found}"
            model.notes.clear()
            real.notes.clear()

    async def _end(self) -> None:
        """Let everybody leave: nothing may be left."""
        for key in KEYS:
            await self._both(0, f"pause {key} False", partial(_resume, key))
        for number, key, ticket in self._tickets:
            await self._both(number, f"leave {key} {ticket}", partial(_leave, key, ticket))
        for number in (0, 1):
            await self._both(number, "poke", partial(_leave, "a", ""))
        for key in KEYS:
            for ticket in (f"last-{key}-1", f"last-{key}-2"):  # the first takes back what is owed to nobody else
                await self._both(0, "last", partial(_come, key, ticket))
                await self._both(0, "last", partial(_leave, key, ticket))
        await self._both(0, "look", lambda engine: engine.look())
        assert await self._pairs[0][1].engine.look() == [], self._told()

    def _plain(self, found: Any, side: int) -> Any:
        """What can be compared: a token is the order in which it was first seen, a place has no number."""
        if isinstance(found, list | tuple):
            return [self._plain(each, side) for each in cast("list[Any]", found)]
        if isinstance(found, Granted):
            tokens = self._tokens[side]
            assert found.token in tokens or not tokens or found.token > max(tokens), self._told()
            return replace(found, token=tokens.setdefault(found.token, len(tokens)))
        if isinstance(found, Queued):
            return replace(found, number=0, look_after=None)
        return found

    def _told(self) -> str:
        return "\n".join(self.history[-40:])


async def _resume(key: str, engine: Engine) -> None:
    await engine.pause(key, False)


async def _come(key: str, ticket: str, engine: Engine) -> Answer:
    return await engine.acquire(key, Ask(ticket=ticket))


async def _leave(key: str, ticket: str, engine: Engine) -> None:
    await engine.leave(key, ticket)
