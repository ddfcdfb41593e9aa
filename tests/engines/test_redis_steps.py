"""Random steps of several workers: the scripts and `Steps` say the same, and tell the same."""

import asyncio
import random
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from support.redis_servers import redis_url
from turnlane.engines import (
    Alive,
    Answer,
    Ask,
    Draining,
    End,
    Engine,
    Granted,
    Interrupted,
    LaneView,
    Note,
    Offered,
    Over,
    Queued,
    Told,
)
from turnlane.engines.memory import MemoryEngine, MemoryLanes
from turnlane.engines.redis import RedisEngine

KEYS = ("k", "{k}:lane:", "ü")
WORKERS = 3
SHORT, LONG = 25, 1500


class Twin:
    """One worker in each of two places, which are asked the same."""

    def __init__(self, name: str, shared: MemoryLanes, url: str) -> None:
        self.name = name
        self.engines: tuple[Engine, Engine] = (MemoryEngine(shared), RedisEngine(url))
        self.notes: tuple[list[Note], list[Note]] = ([], [])
        self._told = asyncio.Event()

    async def open(self) -> None:
        await self.engines[0].open(self.name, partial(self._tell, 0))
        await self.engines[1].open(self.name, partial(self._tell, 1))

    async def told(self, count: int) -> None:
        """Return when so many notes have come through the network."""
        async with asyncio.timeout(10):
            while len(self.notes[1]) < count:
                self._told.clear()
                await self._told.wait()

    def _tell(self, place: int, note: Told) -> None:
        assert not isinstance(note, Draining)
        self.notes[place].append(note)
        self._told.set()

    async def aclose(self) -> None:
        for engine in self.engines:
            await engine.aclose()


class Programme:
    """Steps drawn from a seed.

    Mutable: `twins`, those that are open; `live`, tickets that have a lane or stand in a line; `ranks` and
    `tokens`, by place, in which order numbers, and the tokens of each key, were first seen.
    """

    def __init__(self, seed: int, url: str) -> None:
        self.random = random.Random(seed)
        self.shared, self.url = MemoryLanes(), url
        self.twins = [Twin(f"w{number}", self.shared, url) for number in range(WORKERS)]
        self.live: dict[str, tuple[str, Twin]] = {}
        self.held: dict[str, Granted] = {}
        self.ranks: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.tokens: tuple[dict[str, dict[int, int]], dict[str, dict[int, int]]] = ({}, {})
        self.count = 0
        self.log: list[str] = []

    async def run(self, steps: int) -> None:
        """Do so many steps, comparing after each."""
        for twin in self.twins:
            await twin.open()
        try:
            for _ in range(steps):
                await self.step()
            await self.settle_down()
        finally:
            for twin in self.twins:
                await twin.aclose()

    async def step(self) -> None:
        twin, key, draw = self.random.choice(self.twins), self.random.choice(KEYS), self.random.random()
        if draw < 0.42:
            await self.come(twin, key)
        elif draw < 0.70 and self.live:
            ticket = self.random.choice(sorted(self.live))
            key, twin = self.live[ticket]
            how = {"owes": self.random.random() < 0.1, "scatter": self.random.random() < 0.2}
            await self.both(twin, "leave", key, ticket, **how)
            self.live.pop(ticket, None)
        elif draw < 0.76 and self.live:
            ticket = self.random.choice(sorted(self.live))
            key, twin = self.live[ticket]
            await self.both(twin, "acquire", key, Ask(ticket=ticket))
        elif draw < 0.84 and self.held:
            await self.settle()
        elif draw < 0.88:
            await self.both(twin, "interrupt", key, grace=self.random.choice((0.0, 2.5)))
        elif draw < 0.92:
            await self.both(twin, "pause", key, self.random.random() < 0.4)
        elif draw < 0.96:
            await self.renew(twin)
        elif draw < 0.97:
            await self.close(twin)
        else:
            await self.both(twin, "leave", key, self.random.choice(("", "nobody")))
        await self.compare()

    async def come(self, twin: Twin, key: str) -> None:
        self.count += 1
        chance = self.random.random
        ask = Ask(
            ticket=f"t{self.count}",
            room=self.random.choice((None, None, None, 0, 2)),
            over="" if chance() < 0.9 else self.random.choice(("interrupt", "rollback")),
            grace=self.random.choice((0.0, 1.5)),
            tag=self.random.choice(("", "a", "a", "b")),
            most=self.random.choice((None, 2, 3)),
            overflow=self.random.choice(("refuse", "oldest")),
            steer=chance() < 0.2,
            whom=self.random.choice(("", "alice")),
            payload=self.random.choice((b"", b"m%d" % self.count, b"\xff\x00:1\r\n")),
        )
        self.live[ask.ticket] = (key, twin)
        answer = await self.both(twin, "acquire", key, ask)
        if not isinstance(answer, Queued | Granted):
            self.live.pop(ask.ticket, None)

    async def settle(self) -> None:
        ticket = self.random.choice(sorted(self.held))
        held = self.held[ticket]
        if ticket not in self.live:
            return
        waiting = [other for other, (key, _) in self.live.items() if key == held.key and other != ticket]
        carried = [each.ticket for each in held.carried]
        chosen = carried if carried and self.random.random() < 0.7 else waiting
        how: Any = self.random.choice(("coalesced", "shared", "steered"))
        ends = [End(other, how, b"result") for other in sorted(chosen)[: self.random.randrange(1, 3)]]
        await self.both(self.live[ticket][1], "settle", held.key, ticket, ends)

    async def renew(self, twin: Twin) -> None:
        own = sorted(ticket for ticket, (_, of) in self.live.items() if of is twin)
        for key in KEYS:  # of different lanes they come in any order
            asked = [Alive(key, ticket) for ticket in own if self.live[ticket][0] == key]
            await self.both(twin, "renew", [*asked, Alive(key, "nobody's")])

    async def close(self, twin: Twin) -> None:
        """Close a worker: what it had is gone, and another comes in its place."""
        self.log.append(f"{twin.name} closes")
        for line in self.shared.lines.values():  # as engines do that know the tickets of a worker
            for place in [place for place in line.values() if place.worker == twin.name and not place.lent]:
                del line[place.ticket]
        await twin.aclose()
        self.live = {ticket: (key, of) for ticket, (key, of) in self.live.items() if of is not twin}
        self.count += 1
        self.twins[self.twins.index(twin)] = other = Twin(f"v{self.count}", self.shared, self.url)
        await other.open()

    async def both(self, twin: Twin, step: str, *arguments: Any, **options: Any) -> Any:
        """Do a step in both places and compare what is answered."""
        self.log.append(f"{twin.name}.{step} {arguments} {options}")
        found: list[Any] = [await getattr(engine, step)(*arguments, **options) for engine in twin.engines]
        listed: list[list[Any]] = [each if step == "renew" else [each] for each in found]
        left, right = ([self.plain(place, answer) for answer in each] for place, each in enumerate(listed))
        assert left == right, self.log[-1]
        self.keep(found[0])
        return found[0]

    def plain(self, place: int, answer: Any) -> object:
        """Return an answer with the ranks of its token and number, and without what only one place says."""
        ranks = self.ranks[place]
        if isinstance(answer, Granted):
            ranks = self.tokens[place].setdefault(answer.key, {})
            if answer.token not in ranks:
                assert answer.token > max(ranks, default=0), "a token went back"
            return replace(answer, token=ranks.setdefault(answer.token, len(ranks)))
        if isinstance(answer, Queued):
            number = ranks.setdefault(answer.number, len(ranks)) if answer.number else 0
            return replace(answer, number=number, look_after=None)
        if isinstance(answer, LaneView):
            return (
                answer.key,
                answer.holder and answer.holder.ticket,
                tuple(view.ticket for view in answer.waiting),
                answer.paused,
            )
        return answer

    def keep(self, found: Answer | list[Note] | None) -> None:
        if isinstance(found, Granted):
            self.held[found.ticket] = found

    async def compare(self) -> None:
        """Compare what was told, and how the lanes are."""
        for twin in self.twins:
            left, right = twin.notes
            await twin.told(len(left))
            for notes in twin.notes:  # of different lanes they come in any order
                notes.sort(key=lambda note: note.key)
            told = [[self.plain(place, note) for note in notes] for place, notes in enumerate(twin.notes)]
            assert told[0] == told[1], "\n".join([*self.log[-8:], twin.name])
            for note in left:
                if isinstance(note, Granted):
                    self.held[note.ticket] = note
                elif isinstance(note, Over) and note.how != "shared":
                    self.live.pop(note.ticket, None)
                else:
                    assert isinstance(note, Interrupted | Offered | Over)
            left.clear()
            right.clear()
        views = [await engine.look() for engine in self.twins[0].engines]
        plain = [[self.plain(place, view) for view in found] for place, found in enumerate(views)]
        seen = [[view for view in found if view[1] or view[2] or view[3]] for found in plain]  # type: ignore[index]
        assert seen[0] == seen[1], "\n".join(self.log[-8:])

    async def settle_down(self) -> None:
        """Have everybody leave: nobody stays behind."""
        for key in KEYS:
            await self.both(self.twins[0], "pause", key, False)
            await self.compare()
        for ticket, (key, twin) in list(self.live.items()):
            await self.both(twin, "leave", key, ticket)
            await self.compare()
        assert await self.twins[0].engines[1].look() == []


@pytest.mark.timeout(600)
async def test_scripts_do_what_the_reference_does(seed: int, long_form: bool) -> None:
    """Answers, notes, and who stands where, whatever steps several workers ask for in whatever order."""
    for number in range(LONG if long_form else SHORT):
        with redis_url() as url:
            programme = Programme(seed + number, url)
            try:
                await programme.run(60)
            except BaseException:
                print(f"programme of --seed={seed + number}")
                print("\n".join(programme.log))
                raise
