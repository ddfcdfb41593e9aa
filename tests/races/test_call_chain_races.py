"""Agents of one process that call each other over HTTP, in every order that a seed draws: nobody waits for ever."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_staged import answer_with, header_of
from support.asgi_wire import Wire, scope_of
from support.lanes_invariants import leftovers
from support.seeded_loop import LoopClock, SeededLoop, Stuck
from turnlane import Enqueue, LaneMiddleware, Lanes

FOREVER = Enqueue(max_waiting=None, wait_timeout=None)


@dataclass(frozen=True)
class Call:
    """One call of an agent: for which conversation, and what that turn calls, one after the other or all at once."""

    key: str
    calls: "tuple[Call, ...]" = ()
    at_once: bool = False


def draw_call(rng: random.Random, keys: str, depth: int) -> Call:
    calls = tuple(draw_call(rng, keys, depth - 1) for _ in range(rng.choice((0, 1, 1, 2)) if depth else 0))
    return Call(rng.choice(keys), calls, rng.random() < 0.5)


class Agents:
    """Every call is a request in a context of its own, as over sockets; only the header ties them together."""

    def __init__(self, loop: SeededLoop, max_running: int | None, *, passes_on: bool) -> None:
        self.lanes = Lanes(clock=LoopClock(loop), slow_after=None, max_running=max_running)
        self.passes_on = passes_on
        self.answers: Counter[int] = Counter()
        self.inside: Counter[str] = Counter()
        self._calls: dict[bytes, Call] = {}
        self.middleware = LaneMiddleware(
            self.app, key="x-session-key", lanes=self.lanes, trusted_keys=True, trust_chain=True, policy=FOREVER
        )

    async def call(self, call: Call, headers: dict[str, str]) -> None:
        name = b"%d" % len(self._calls)
        self._calls[name] = call
        sent = [(one.encode(), other.encode()) for one, other in headers.items()]
        wire = Wire()
        wire.body(b"")
        await wire.call(self.middleware, scope_of(call.key, name.decode(), headers=sent))
        self.answers[wire.status] += 1

    async def app(self, scope: Scope, _: Receive, send: Send) -> None:
        call, turn = self._calls[header_of(scope, b"x-name")], scope["state"]["turn"]
        self.inside[call.key] += 1
        assert self.inside[call.key] == 1
        headers: dict[str, str] = turn.headers() if self.passes_on else {}
        if call.at_once:
            await asyncio.gather(*(self.call(each, headers) for each in call.calls))
        else:
            for each in call.calls:
                await self.call(each, headers)
        self.inside[call.key] -= 1
        await answer_with(send)

    async def main(self, roots: list[Call]) -> None:
        await asyncio.gather(*(self.call(root, {}) for root in roots))


def run(seed: str, *, passes_on: bool = True) -> Counter[int]:
    rng = random.Random(seed)
    keys, max_running = "abcd"[: rng.randint(2, 4)], rng.choice((None, None, 1, 2))
    roots = [draw_call(rng, keys, 3) for _ in range(rng.randint(1, 4))]
    with SeededLoop(rng) as loop:
        agents = Agents(loop, max_running, passes_on=passes_on)
        try:
            loop.run(agents.main(roots))
        except Stuck as stuck:
            raise Stuck(f"seed {seed!r}: {stuck}") from stuck
        assert leftovers(agents.lanes) == [], seed
    return agents.answers


@pytest.mark.timeout(300)
def test_whatever_agents_call_nobody_waits_for_ever(seed: int, long_form: bool) -> None:
    """Without any time limit every call is answered, with 200 or refused as re-entry; slots are lent, none is lost."""
    answers: Counter[int] = Counter()
    for number in range(5000 if long_form else 400):
        answers += run(f"{seed}/{number}")
    assert set(answers) == {200, 409}


def test_without_the_header_they_would(seed: int) -> None:
    """The exploration can find it."""

    def explore() -> None:
        for number in range(100):
            run(f"{seed}/{number}", passes_on=False)

    with pytest.raises(Stuck):
        explore()
