"""Turns of several workers over many lanes while what keeps the lanes changes: what was granted, who was not alone."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from turnlane import Enqueue, Lanes, errors

__all__ = ("Traffic", "traffic_on")

EVERYBODY = Enqueue(max_waiting=None, wait_timeout=120.0)
LONGEST_TURN = 0.02
BEFORE_AGAIN = 0.05
VISITORS = 12


@dataclass
class Traffic:
    """Visitors that have one turn after the other, each of any lane by any worker, until they are told to stop.

    Who is refused because the server is not there comes again.

    Attributes:
        workers: the lanes of several workers.
        keys: of the lanes.
        chance: what decides.
        tokens: by key, in the order in which turns began.
        begun: by worker and key, the arrivals in the order in which their turns began.
        beside: turns that began while another, which had not been told that its lane was lost, still ran.
        refused: errors by type.
        lost: how many turns were told that their lane was lost.
        longest: seconds it took at most to be refused.
    """

    workers: Sequence[Lanes]
    keys: Sequence[str]
    chance: random.Random
    tokens: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    begun: dict[tuple[int, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    beside: list[str] = field(default_factory=list[str])
    refused: Counter[str] = field(default_factory=Counter[str])
    lost: int = 0
    longest: float = 0.0
    _inside: dict[str, list[object]] = field(default_factory=lambda: defaultdict(list))
    _arrivals: int = 0
    _stop: bool = False
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def count(self) -> int:
        """How many turns there were."""
        return sum(map(len, self.tokens.values()))

    async def visit(self, worker: int, key: str) -> None:
        """Have one turn, however often it takes to be let in."""
        clock = asyncio.get_running_loop().time
        while True:
            self._arrivals += 1
            arrival, came, token = self._arrivals, clock(), 0
            try:
                async with self.workers[worker].turn(key, policy=EVERYBODY) as turn:
                    token = turn.token
                    await self._run(worker, key, arrival, token, turn)
                return
            except (errors.EngineUnavailable, errors.OutcomeUnknown) as error:
                if token:
                    self.lost += 1
                    return
                self.refused[type(error).__name__] += 1
                self.longest = max(self.longest, clock() - came)
            await asyncio.sleep(BEFORE_AGAIN)

    async def _run(self, worker: int, key: str, arrival: int, token: int, turn: object) -> None:
        inside = self._inside[key]
        if any(not getattr(other, "lost", False) for other in inside):
            self.beside.append(key)
        inside.append(turn)
        self.tokens[key].append(token)
        self.begun[worker, key].append(arrival)
        self._more.set()
        try:
            await asyncio.sleep(self.chance.uniform(0, LONGEST_TURN))
        finally:
            inside.remove(turn)

    async def keep_coming(self) -> None:
        """Have turns until `stop`."""
        while not self._stop:
            await self.visit(self.chance.randrange(len(self.workers)), self.chance.choice(self.keys))

    def stop(self) -> None:
        self._stop = True

    async def go_on_for(self, turns: int) -> None:
        """Return when so many more turns have begun."""
        until = self.count + turns
        while self.count < until:
            self._more.clear()
            await self._more.wait()

    def require_order(self, *, forgotten: int = 0) -> None:
        """Tokens grew with every turn of a lane, nobody ran beside another, who asked a worker earlier was earlier.

        Args:
            forgotten: how often a server came that had not been told of the last steps: who was granted a lane then may
                not be alone, and who came then may stand behind one that came later; no more of them than there are
                visitors.
        """
        for key, tokens in self.tokens.items():
            assert tokens == sorted(set(tokens)), f"tokens of {key}: {tokens}"
        early = [
            f"worker {worker}, {key}: {arrival} after {other}"
            for (worker, key), arrivals in self.begun.items()
            for other, arrival in pairwise(arrivals)
            if arrival < other
        ]
        assert len(early) <= forgotten * VISITORS, early
        assert len(self.beside) <= forgotten * VISITORS, self.beside


@asynccontextmanager
async def traffic_on(
    workers: Sequence[Lanes], keys: Sequence[str], seed: int, *, patience: float
) -> AsyncGenerator[Traffic]:
    """Have turns on many lanes during a block; afterwards every worker can have each, all in `patience` seconds."""
    print(f"--seed={seed}")
    traffic = Traffic(workers, keys, random.Random(seed))
    visits = [asyncio.create_task(traffic.keep_coming()) for _ in range(VISITORS)]
    try:
        await traffic.go_on_for(50)
        yield traffic
        await traffic.go_on_for(50)
        traffic.stop()
        async with asyncio.timeout(patience):
            await asyncio.gather(*visits)
            await asyncio.gather(*(traffic.visit(worker, key) for key in keys for worker in range(len(workers))))
    finally:
        for visit in visits:
            visit.cancel()
        await asyncio.wait(visits)
    print(f"{traffic.count} turns, {traffic.lost} lost, {len(traffic.beside)} beside others, {traffic.refused}")
