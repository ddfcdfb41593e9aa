"""Random requests, releases, departures and cancellations: whatever happens, the promises of a lane hold."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_staged import answer_with, body_held, chunk, header_of, laned, passes, post, read_body, serving, start
from turnlane import Enqueue, Interrupt, LaneMiddleware, Reject
from turnlane.errors import TurnInterrupted
from turnlane.hooks import TurnFinished, TurnRefused, TurnStarted
from turnlane.testing import AsgiDriver, Gates, HttpRequest

KEYS = ("alice", "bob", "carol")
EVENTS = (b"content-type", b"text/event-stream")


class WatchedApp:
    """Takes a random time in one of several ways, and watches that it is alone with its key."""

    def __init__(self, rng: random.Random) -> None:
        self.order: dict[str, list[int]] = defaultdict(list)
        self.inside: set[str] = set()
        self.holds_on = True  # else what is left of a turn may overlap the next: its lane went with its response
        self._rng = rng

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key, number = header_of(scope, b"x-session-key").decode(), int(header_of(scope, b"x-name"))
        assert key not in self.inside or not self.holds_on, f"two of {key} at once"
        self.inside.add(key)
        self.order[key].append(number)
        try:
            try:
                await self._work(receive, send)
            finally:
                await passes(self._rng.choice([0, 0, 3]))
        finally:
            self.inside.discard(key)

    async def _work(self, receive: Receive, send: Send) -> None:
        rng = self._rng
        await passes(rng.randrange(6))
        manner = rng.randrange(5)
        if manner == 0:
            raise KeyError("a bug")
        if manner == 1:
            await send(start(200, EVENTS))
            for _ in range(rng.randrange(5)):
                await send(chunk(b"data: 1\n\n"))
                await passes(rng.randrange(4))
            await send(chunk(b"", more=False))
            await passes(rng.randrange(4))
            return
        if manner == 2:
            await passes(rng.randrange(8))
        else:
            await read_body(receive)
        await answer_with(send)


class Traffic:
    """One run of random requests."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.app = WatchedApp(rng)
        policy: Any = rng.choice([Enqueue(), Enqueue(max_waiting=3), Reject(), Interrupt(grace=0)])
        settings: dict[str, Any] = {
            "policy": policy,
            "way": rng.choice(["short", "told", "long", "sessions"]),
            "release_on": rng.choice(["app_return", "app_return", "response_end"]),
            "on_disconnect": rng.choice(["pass", "finish"]),
            "body_limit": rng.choice([0, 5, 1000]),
            "body_budget": rng.choice([20, 100_000]),
        }
        self.app.holds_on = settings["release_on"] == "app_return"
        self.middleware: LaneMiddleware = laned(self.app, **settings)
        self.requests: list[HttpRequest] = []
        self.unsent: dict[HttpRequest, int] = {}
        self.gone: set[HttpRequest] = set()

    async def run(self) -> None:
        """Let it happen, and look at what is left."""
        async with self.driven() as driver:
            with Gates(self.middleware.runtime.hooks) as gates:
                for _ in range(60):
                    await self.step(driver)
                for request in self.requests:
                    if request in self.unsent and request not in self.gone:
                        await request.send_body(b"", more=False)
                _, late = await asyncio.wait({request.task for request in self.requests}, timeout=10)
                assert late == set()
                await passes()
            self.check(gates)
        assert body_held(self.middleware) == 0

    @asynccontextmanager
    async def driven(self) -> AsyncGenerator[AsgiDriver, None]:
        """Drive the app; what it raises is looked at here, not by the driver."""

        async def server(scope: Scope, receive: Receive, send: Send) -> None:
            with suppress(KeyError, ConnectionError, TurnInterrupted):  # a server would log them
                await self.middleware(scope, receive, send)

        async with serving(self.middleware), AsgiDriver(server) as driver:
            yield driver

    async def step(self, driver: AsgiDriver) -> None:
        """Do one thing."""
        rng = self.rng
        act = rng.random()
        if act < 0.4 or not self.requests:
            body = None if rng.random() < 0.4 else b"x" * rng.randrange(12)
            request = post(driver, rng.choice(KEYS), str(len(self.requests)), body=body)
            self.requests.append(request)
            if body is None:
                self.unsent[request] = rng.randrange(4)
        elif act < 0.6 and self.unsent:
            request = rng.choice(list(self.unsent))
            if request not in self.gone:
                last = self.unsent[request] == 0
                await request.send_body(b"y" * rng.randrange(6), more=not last)
                self.unsent[request] -= 1
                if last:
                    del self.unsent[request]
        elif act < 0.7:
            request = rng.choice(self.requests)
            request.disconnect()
            self.gone.add(request)
        elif act < 0.75:
            request = rng.choice(self.requests)
            request.task.cancel()
        await passes(rng.randrange(5))

    def check(self, gates: Gates) -> None:
        """Check what the app saw and what was told."""
        for key, numbers in self.app.order.items():
            assert numbers == sorted(set(numbers)), f"{key} ran as {numbers}"
        started, finished = gates.at(TurnStarted).seen, gates.at(TurnFinished).seen
        refused = gates.at(TurnRefused).seen
        assert sorted(event.turn for event in started) == sorted(event.turn for event in finished)
        assert not {event.turn for event in refused} & {event.turn for event in started}
        by_key: dict[str, list[int]] = defaultdict(list)
        for event in started:
            by_key[event.key].append(event.token)
        for tokens in by_key.values():
            assert tokens == sorted(set(tokens))
        statistics = self.middleware.runtime.lanes.statistics()
        assert (statistics.lanes, statistics.running, statistics.waiting) == (0, 0, 0)
        assert sum(statistics.totals.values()) == 1 + len(started) + len(refused)  # one before the requests


@pytest.mark.timeout(120)
async def test_the_promises_hold_whatever_happens(seed: int, long_form: bool) -> None:
    """Alone with its key, in order of arrival, every turn that began has ended, nothing is left."""
    for number in range(5000 if long_form else 40):
        try:
            await Traffic(seed + number).run()
        except BaseException as error:
            error.add_note(f"--seed={seed + number}")
            raise
