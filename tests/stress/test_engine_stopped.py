"""Who has lanes is stopped in the middle of its writes, past its lease; others go on; then it wakes up and writes.

Long form (1000 rounds for each engine, printed figures): `pytest -s tests/stress/test_engine_stopped.py --long`
"""

import asyncio
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support.engine_places import empty_place
from support.engine_processes import EngineProcess, engine_process, engine_processes
from turnlane import Transcripts

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP"),
]

LEASE = 1.0
AT_ONCE = 20  # lanes of each of the processes that are stopped
GROUPS = 2
PAUSE = 1.0  # seconds between two writes, at most: none lasts until the end of a lease
UNTIL_IT_WAKES = LEASE + 2.0  # whoever has not begun by then waits for the lock of a transcript


@pytest.fixture(params=[("redis", "files"), ("redis", "sqlite"), ("postgresql", "postgresql")], ids="-".join)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[tuple[str, str], None, None]:
    """The URLs of lanes and of transcripts."""
    engine, store = request.param
    with empty_place(engine, tmp_path, request) as url:
        stores = {"files": str(tmp_path / "transcripts"), "sqlite": f"sqlite:///{tmp_path}/t.db", "postgresql": url}
        yield url, stores[store]


class Rounds:
    """Mutable: all of it. `rounds`: those in which another had begun before the first one woke up and wrote.

    `woken` counts what became of the writes it tried before it was told that its lane is lost, `told` of those after
    that; `kept_out` the lanes where the next one had to wait for the lock of the transcript.
    """

    def __init__(self, url: str, store: str, chance: random.Random) -> None:
        self.rounds = self.kept_out = self.unwoken = 0
        self.woken: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.begun: list[str] = []
        self._url = url
        self._store = store
        self._chance = chance

    async def stop(self, next_one: EngineProcess, names: list[str]) -> None:
        """Stop a process with these lanes, wait for the next ones, wake it up, and see what it could write."""
        facts: Any = {"store": self._store, "pause": PAUSE}
        async with engine_process(self._url, LEASE) as stopped:
            for name in names:
                stopped.tell("write", name, key=name, seed=self._chance.randrange(2**32), **facts)
            for name in list(names):
                if (await stopped.told("runs", "wrote", name=name))["event"] == "wrote":
                    names.remove(name)  # it has lost its lane already: this machine is slow
                    continue
                next_one.tell("write", name, key=name, seed=self._chance.randrange(2**32), **facts)
                await next_one.told("waits", key=name)
            await asyncio.sleep(self._chance.uniform(0, LEASE / 3))  # it may be stopped at any moment
            stopped.send_signal(signal.SIGSTOP)
            begun = await self._begun(next_one, names)
            woken = time.monotonic()
            stopped.send_signal(signal.SIGCONT)
            for name in names:
                attempts = (await stopped.told("wrote", name=name))["attempts"]
                self._judge(name, begun=name in begun, after=[a for a in attempts if a[0] >= woken])
            for name in names:
                if name not in begun:
                    await next_one.told("runs", "wrote", name=name)
                next_one.go(name)
            for name in names:
                await next_one.told("wrote", name=name)

    async def _begun(self, next_one: EngineProcess, names: list[str]) -> set[str]:
        """Return the lanes whose next turn has begun, and written, while the first one stood still."""
        deadline, begun = time.monotonic() + UNTIL_IT_WAKES, set[str]()
        for name in names:
            left = max(deadline - time.monotonic(), 0.001)
            try:
                await next_one.told("runs", name=name, timeout=left)
                self.begun.append(name)
            except TimeoutError:
                self.kept_out += 1
            else:
                begun.add(name)
        return begun

    def _judge(self, name: str, *, begun: bool, after: list[tuple[float, float, str, bool]]) -> None:
        if not begun:
            return
        unknowing = [found for _, _, found, knew in after if not knew]
        self.rounds += bool(unknowing)
        self.unwoken += not unknowing
        self.woken.update(unknowing)
        self.told.update(found for _, _, found, knew in after if knew)
        self.wrong += [f"{name}: a write was stored" for _, _, found, _ in after if found == "stored"]


async def test_who_was_stopped_writes_no_more(
    places: tuple[str, str], request: pytest.FixtureRequest, seed: int, long_form: bool
) -> None:
    """Each write that it tries after it was woken is refused: by the token, before anybody has told it."""
    url, store = places
    rounds = Rounds(url, store, random.Random(seed))
    wanted = 1000 if long_form else 10
    async with engine_processes([url] * GROUPS, LEASE) as next_ones:

        async def again(group: int) -> None:
            number = 0
            while rounds.rounds < wanted:
                lanes = range(AT_ONCE if long_form else 5)
                await rounds.stop(next_ones[group], [f"s{group}-{number}-{lane}" for lane in lanes])
                number += 1
                assert number < 200, f"few rounds have come about: {rounds.rounds}"

        await asyncio.gather(*(again(group) for group in range(GROUPS)))
    print(
        f"\n{request.node.callspec.id}: {rounds.rounds} rounds; woken and untold {dict(rounds.woken)}, told "
        f"{dict(rounds.told)}; no write in {rounds.unwoken}, kept out by a lock {rounds.kept_out}"
    )
    async with Transcripts(store) as transcripts:
        for name in rounds.begun:
            tokens = [int(str(entry["token"])) for entry in await transcripts.read(name)]
            assert len(set(tokens)) == 2, f"{name}: {tokens}"
            assert all(one <= other for one, other in pairwise(tokens)), f"{name}: an older turn wrote after a newer"
    assert rounds.wrong == []
    assert set(rounds.woken) == {"StaleTurn"}
