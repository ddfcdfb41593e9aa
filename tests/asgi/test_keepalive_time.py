"""Keep-alive over hours, on a clock that jumps: when comment lines are sent, and when none are."""

import asyncio
import random
from collections.abc import Coroutine
from functools import partial
from typing import Any

import pytest

from support.asgi_kept import EVENTS, QUEUED, STREAM
from support.asgi_staged import StagedApp, chunk, laned, start
from support.asgi_wire import Wire, scope_of
from support.lanes_invariants import leftovers
from support.seeded_loop import LoopClock, SeededLoop, until_blocked
from turnlane import Enqueue, KeepAlive, LaneMiddleware, Lanes

HOURS = 2 * 3600.0


class Timed(Wire):
    """Notes when each message was sent."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.times: list[float] = []
        self._loop = loop
        self._began = loop.time()

    async def send(self, message: Any) -> None:
        """Keep a message and its moment."""
        self.times.append(self._loop.time() - self._began)
        await super().send(message)

    @property
    def comments(self) -> list[float]:
        """When comment lines were sent."""
        both = zip(self.times, self.sent, strict=True)
        return [when for when, message in both if message.get("body") == QUEUED]


class Line:
    """One lane, somebody in it until a moment, and requests that wait for it."""

    def __init__(self, loop: SeededLoop, keepalive: KeepAlive, *, wait_timeout: float | None = None) -> None:
        self.loop = loop
        self.app = StagedApp()
        lanes = Lanes(clock=LoopClock(loop), slow_after=None)
        policy = Enqueue(max_waiting=None, wait_timeout=wait_timeout)
        self.middleware: LaneMiddleware = laned(self.app, lanes=lanes, policy=policy, keepalive=keepalive)

    def request(self, name: str, body: bytes = STREAM) -> tuple[Timed, "asyncio.Task[None]"]:
        """Start a request; without a body to say otherwise it asks for a stream, and is answered with one event."""

        async def step(_: Any, __: Any, send: Any) -> None:
            await send(start(200, EVENTS))
            await send(chunk(b"data: " + name.encode() + b"\n\n", more=False))

        if name != "ahead":
            self.app.steps[name] = step
        wire = Timed(self.loop)
        wire.body(body)
        return wire, wire.call(self.middleware, scope_of("k", name))

    async def occupied(self) -> "asyncio.Task[None]":
        """Let a request run that stays until it is released."""
        _, task = self.request("ahead", b"")
        await self.app.entered("ahead")
        return task

    async def release_after(self, seconds: float) -> None:
        """Let time pass, and then the request that runs go."""
        await asyncio.sleep(seconds)
        self.app.release("ahead")

    def assert_idle(self) -> None:
        """Nothing is retained: no timer, no sleeper, no lane."""
        assert self.loop.armed() == []
        assert leftovers(self.middleware.runtime.lanes) == []
        assert "waiting=0" in repr(self.middleware._settings.beats)  # pyright: ignore[reportPrivateUsage]


def run(main: Coroutine[Any, Any, None], loop: SeededLoop) -> None:
    loop.max_steps = 2_000_000
    loop.run(main)


@pytest.mark.parametrize(
    ("after", "every", "first", "count"), [(10.0, 15.0, 10.0, 480), (0.0, 60.0, 0.0, 120), (7200.5, 15.0, None, 0)]
)
def test_two_hours_of_waiting(after: float, every: float, first: float | None, count: int) -> None:
    """The first comment line after the silent window, one more every so often, none once the turn has started."""
    with SeededLoop() as loop:
        line = Line(loop, KeepAlive(after=after, every=every))

        async def main() -> None:
            ahead = await line.occupied()
            wire, waiting = line.request("it")
            # An instant more than two hours, so that what is due at their end is sent.
            await line.release_after(HOURS - 0.25 if after == 0 else HOURS + 0.25)
            await asyncio.gather(ahead, waiting)
            assert wire.comments == [(first or 0.0) + every * number for number in range(count)]
            assert wire.text == ": queued\n" * count + "data: it\n\n"
            await until_blocked()
            line.assert_idle()

        run(main(), loop)


def test_a_thousand_who_came_together_share_two_timers() -> None:
    """One for the first beat, one for those that follow; each waiter is sent its comment lines at its times."""
    with SeededLoop() as loop:
        line = Line(loop, KeepAlive(after=10, every=15))

        async def main() -> None:
            ahead = await line.occupied()
            before = len(loop.armed())
            requests = [line.request(str(number)) for number in range(1000)]
            for seconds, sent, armed in ((9, 0, 1), (2, 1, 1), (15, 2, 1), (15, 3, 1)):
                await asyncio.sleep(seconds)
                assert [len(wire.comments) for wire, _ in requests] == [sent] * 1000
                assert len(loop.armed()) - before == armed
            late, _ = line.request("late")
            await until_blocked()
            assert len(loop.armed()) - before == 2
            line.app.release("ahead")
            await asyncio.gather(ahead, *(task for _, task in requests))
            await until_blocked()
            assert (late.comments, late.text) == ([], "data: late\n\n")
            line.assert_idle()

        run(main(), loop)


def test_those_who_wake_together_let_others_in_between() -> None:
    """A thousand comment lines are not sent in one go: the loop comes round many times meanwhile."""
    with SeededLoop() as loop:
        line = Line(loop, KeepAlive(after=10, every=15))

        async def main() -> None:
            ahead = await line.occupied()
            requests = [line.request(str(number)) for number in range(1000)]
            most = 0
            await asyncio.sleep(9.9)
            while (sent := sum(len(wire.comments) for wire, _ in requests)) < 1000:
                await asyncio.sleep(0.1 if not sent else 0)
                most = max(most, sum(len(wire.comments) for wire, _ in requests) - sent)
            assert 0 < most <= 130
            line.app.release("ahead")
            await asyncio.gather(ahead, *(task for _, task in requests))

        run(main(), loop)


def test_who_leaves_the_line_is_sent_no_more() -> None:
    """And the timer goes with the last of them."""
    with SeededLoop() as loop:
        line = Line(loop, KeepAlive(after=10, every=15))

        async def main() -> None:
            ahead = await line.occupied()
            wire, waiting = line.request("it")
            await asyncio.sleep(30)
            wire.disconnect()
            await waiting
            assert wire.comments == [10.0, 25.0]
            assert loop.armed() == []
            line.app.release("ahead")
            await ahead
            line.assert_idle()

        run(main(), loop)


def test_a_wait_that_was_too_long_ends_between_two_comment_lines() -> None:
    """At its moment, not at the next beat."""
    with SeededLoop() as loop:
        line = Line(loop, KeepAlive(after=10, every=15), wait_timeout=42)

        async def main() -> None:
            ahead = await line.occupied()
            wire, waiting = line.request("it")
            await waiting
            assert (wire.comments, wire.times[-1]) == ([10.0, 25.0, 40.0], 42.0)
            assert "wait_timeout" in wire.text
            line.app.release("ahead")
            await ahead
            line.assert_idle()

        run(main(), loop)


@pytest.mark.timeout(120)
def test_whoever_leaves_whenever_the_lane_goes_on(seed: int, long_form: bool) -> None:
    """Orders drawn from a seed, clients that leave and tasks that are cancelled at any step.

    Nobody is in the app beside another, who stays gets comment lines and then its own event, or an error event if it
    waited too long; nothing is left in the end.
    """
    chance = random.Random(seed)
    for _ in range(2000 if long_form else 150):
        explore(chance.randrange(2**32))


def explore(drawn: int) -> None:
    chance = random.Random(drawn)
    with SeededLoop(random.Random(drawn), max_steps=50_000) as loop:
        keepalive = KeepAlive(after=chance.choice((0, 1, 2)), every=chance.choice((0.5, 1, 3)))
        line = Line(loop, keepalive, wait_timeout=chance.choice((None, 2.5, 6.0)))
        requests: dict[str, tuple[Timed, asyncio.Task[None]]] = {}
        barred: set[str] = set()
        inside: list[str] = []

        def happen(name: str, what: str) -> None:
            if name in requests and not requests[name][1].done():
                barred.add(name)
                requests[name][0].disconnect() if what == "leave" else requests[name][1].cancel()

        async def main() -> None:
            ahead = await line.occupied()
            for number in range(chance.randint(2, 5)):
                name, pause = str(number), chance.choice((0, 0, 0.5, 2))
                requests[name] = line.request(name)
                line.app.steps[name] = alone(name, chance.choice((0, 0.5, 2)))
                await asyncio.sleep(chance.choice((0, 0, 1)))
                if chance.random() < 0.4:
                    what = chance.choice(("leave", "cancel"))
                    loop.before(loop.steps + chance.randint(1, 60), partial(happen, name, what))
                await asyncio.sleep(pause)
            await line.release_after(chance.choice((0, 1, 3, 7)))
            await asyncio.wait([ahead, *(task for _, task in requests.values())])
            await until_blocked()

        def alone(name: str, hold: float) -> Any:
            async def step(_: Any, __: Any, send: Any) -> None:
                assert inside == [], f"seed {drawn}: {name} beside {inside}"
                inside.append(name)
                try:
                    await send(start(200, EVENTS))
                    await asyncio.sleep(hold)
                    await send(chunk(b"data: " + name.encode() + b"\n\n", more=False))
                finally:
                    inside.remove(name)

            return step

        loop.run(main())
        line.assert_idle()
        for name, (wire, task) in requests.items():
            if name in barred:
                continue
            assert not task.cancelled(), f"seed {drawn}"
            assert task.exception() is None, f"seed {drawn}"
            text = wire.text.replace(": queued\n", "")
            answered = text == f"data: {name}\n\n"
            assert answered or "wait_timeout" in text, f"seed {drawn}: {wire.text!r}"
            assert wire.sent[-1]["more_body"] is False
