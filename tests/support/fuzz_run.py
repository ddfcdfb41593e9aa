"""Runs fuzzed requests through the middlewares and reports the first that goes wrong, with the command to repeat it."""

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from typing import Any

from support.fuzz_exchange import Exchange, app, expected_of
from support.fuzz_requests import Drawn, draw_again, draw_request
from support.fuzz_targets import TARGETS, Target, target_at
from support.fuzz_verdict import complaints, outcome, overlong
from turnlane import LaneMiddleware, current_turn, errors, keys

__all__ = ("Campaign", "Tally", "alone", "driven", "failure", "generator_of", "together")

USES = 3_000  # of one middleware before it is made anew: sessions are kept for ever
LINE = 5_000  # inputs between two passes of the loop, which drops timers that were cancelled
STEPS = 100_000
SHOWN = 2_000
SETTLING = 300  # passes of the loop in which everything has happened that happens by itself


@dataclass(slots=True)
class Tally:
    """How many inputs there were and what became of them."""

    name: str
    inputs: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {count}" for name, count in self.outcomes.most_common())
        return f"{self.name}: {self.inputs} inputs in {self.seconds:.1f} s ({parts})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """Which inputs to try: `count` of them from `seed`, or only the one at `only`.

    `spoil` puts a fault around every middleware, for the tests of these tests.
    """

    seed: int
    count: int
    only: int | None = None
    spoil: Callable[[LaneMiddleware], Any] = lambda middleware: middleware

    def indices(self) -> Iterable[int]:
        """Return the numbers of the inputs."""
        return range(self.count) if self.only is None else (self.only,)


def generator_of(seed: int, index: int) -> Random:
    """Return the generator of one input, so that it can be made again without those before it."""
    return Random((seed << 40) | index)


def failure(test: str, seed: int, index: int, complaints: Iterable[str], about: str) -> AssertionError:
    """Return the error that tells what went wrong and how to see it again."""
    lines = [f"- {complaint}" for complaint in complaints]
    again = f"pytest tests/fuzz -k {test} --seed={seed} --fuzz-index={index}"
    return AssertionError("\n".join([f"seed {seed}, index {index}; again: {again}", *lines, about]))


class _Targets:
    """Keeps a middleware of each kind, and makes it anew after some use."""

    def __init__(self, campaign: Campaign) -> None:
        self._spoil = campaign.spoil
        self._made: dict[int, tuple[Target, int]] = {}

    def draw(self, rng: Random) -> Target:
        number = rng.randrange(len(TARGETS))
        target, uses = self._made.get(number, (None, USES))
        if target is None or uses >= USES:
            target, uses = target_at(app, number), 0
            target.asgi = self._spoil(target.middleware)
        self._made[number] = target, uses + 1
        return target


async def alone(campaign: Campaign, test: str) -> Tally:
    """Drive one request after the other by hand, without a task: each must get through without waiting."""
    targets, tally, began = _Targets(campaign), Tally("alone"), perf_counter()
    for index in campaign.indices():
        rng = generator_of(campaign.seed, index)
        target = targets.draw(rng)
        drawn = draw_request(rng, target.kind)
        expected, trouble = driven(expected_of(target.extractor, drawn))
        exchange = Exchange(target, drawn, rng, expected)
        if trouble is not None:
            exchange.wrong.append(f"the extractor alone raised {trouble!r}")
        _, error = driven(target.asgi(exchange.scope, exchange.receive, exchange.send))
        wrong = complaints(exchange, error)
        wrong += [text for text in (target.left_behind(), current_turn() and "a turn stayed in the context") if text]
        if wrong:
            raise failure(test, campaign.seed, index, wrong, _about(target, drawn))
        tally.inputs += 1
        tally.outcomes[outcome(exchange)] += 1
        if index % LINE == 0:
            await asyncio.sleep(0)
    tally.seconds = perf_counter() - began
    return tally


async def together(campaign: Campaign, test: str) -> Tally:
    """Let several requests meet in lanes that others hold, while clients leave and servers cancel."""
    targets, tally, began = _Targets(campaign), Tally("together"), perf_counter()
    for index in campaign.indices():
        rng = generator_of(campaign.seed, index)
        meeting = _Meeting(targets.draw(rng), rng)
        await meeting.run()
        wrong = meeting.complaints()
        if wrong:
            raise failure(test, campaign.seed, index, wrong, meeting.about())
        tally.inputs += len(meeting.exchanges)
        tally.outcomes.update(outcome(exchange) for exchange in meeting.exchanges)
    tally.seconds = perf_counter() - began
    return tally


class _Meeting:
    """Requests that arrive while the lanes they want are held.

    Mutable: `tasks` of the requests, and `holders` of those who hold the lanes until `release`.
    """

    def __init__(self, target: Target, rng: Random) -> None:
        self.target = target
        self.exchanges: list[Exchange] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.order: list[int] = []
        self.left: list[asyncio.Task[Any]] = []
        self._rng = rng
        self._release = asyncio.Event()

    async def run(self) -> None:
        rng, target = self._rng, self.target
        drawn: list[Drawn] = []
        for _ in range(rng.randrange(2, 7)):
            again = drawn and rng.random() < 0.6
            drawn.append(draw_again(rng, rng.choice(drawn)) if again else draw_request(rng, target.kind))
        for number, each in enumerate(drawn):
            expected, _ = driven(expected_of(target.extractor, each))
            exchange = Exchange(target, each, rng, expected, contended=True, number=number, order=self.order)
            self.exchanges.append(exchange)
        loop = asyncio.get_running_loop()
        wanted = dict.fromkeys(each.expected for each in self.exchanges if isinstance(each.expected, str))
        holders = [loop.create_task(self._hold(key), context=contextvars.Context()) for key in wanted]
        await asyncio.sleep(0)
        for exchange in self.exchanges:
            call = target.asgi(exchange.scope, exchange.receive, exchange.send)
            self.tasks.append(loop.create_task(call, context=contextvars.Context()))
        await self._let_things_happen()
        if rng.random() < 0.25:
            for _ in range(SETTLING):
                await asyncio.sleep(0)
            self._look_for_the_gone()
        self._release.set()
        await self._let_things_happen()
        _, late = await asyncio.wait({*self.tasks, *holders}, timeout=10)
        self.left = [*late, *(asyncio.all_tasks() - {asyncio.current_task(), *self.tasks, *holders})]

    async def _hold(self, key: str) -> None:
        try:
            async with self.target.lanes.turn(key):
                await self._release.wait()
        except errors.LaneError:
            pass  # interrupted by one of the requests

    async def _let_things_happen(self) -> None:
        for _ in range(self._rng.choice((0, 1, 2, 4, 8, 16))):
            await asyncio.sleep(0)
            chance = self._rng.random()
            number = self._rng.randrange(len(self.tasks))
            if chance < 0.03:
                self.exchanges[number].leave()
            elif chance < 0.06 and not self.tasks[number].done():
                self.exchanges[number].cancelled = True
                self.tasks[number].cancel()

    def _look_for_the_gone(self) -> None:
        for exchange, task in zip(self.exchanges, self.tasks, strict=True):
            if (exchange.gone or exchange.drawn.cut) and not (exchange.calls or overlong(exchange) or task.done()):
                exchange.wrong.append("the request still waits although its client has left")

    def complaints(self) -> list[str]:
        """Return what is wrong with all of them."""
        if self.left:
            return [f"still running: {task!r}" for task in self.left]
        wrong: list[str] = []
        for exchange, task in zip(self.exchanges, self.tasks, strict=True):
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            wrong += [f"request {exchange.number}: {text}" for text in complaints(exchange, error)]
        left_behind = self.target.left_behind()
        if left_behind:
            wrong.append(left_behind)
        if keys.is_scope_only(self.target.extractor) and self.target.exact:
            wrong += self._out_of_order()
        return wrong

    def _out_of_order(self) -> list[str]:
        ran: dict[str, list[int]] = {}
        for number in self.order:
            turn = self.exchanges[number].turn
            if turn is not None:
                ran.setdefault(turn.key, []).append(number)
        return [f"the lane {key!r} ran in the order {order}" for key, order in ran.items() if order != sorted(order)]

    def about(self) -> str:
        """Return what the requests were."""
        return "\n".join(_about(self.target, exchange.drawn) for exchange in self.exchanges)


def driven(work: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    """Run a coroutine to its end without a loop; what it returned, and what it raised."""
    for _ in range(STEPS):
        try:
            awaited = work.send(None)
        except StopIteration as end:
            return end.value, None
        except Exception as error:
            return None, error
        if awaited is not None:
            work.close()
            return None, RuntimeError(f"waits for {awaited!r}, and nobody is there to end it")
    work.close()
    return None, RuntimeError(f"has not ended after {STEPS} steps")


def _about(target: Target, drawn: Drawn) -> str:
    text = repr(drawn)
    return f"{target.name}: {text if len(text) < SHOWN else f'{text[:SHOWN]}... ({len(text)} characters)'}"
