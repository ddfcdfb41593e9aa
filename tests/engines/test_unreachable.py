"""Engines that can not be reached: at the start, during a wait, during a turn, at its end; told in bounded time."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from support.engine_places import LEASED, empty_place
from support.engine_processes import engine_of, nothing_left
from support.net_faults import Fault, FaultProxy, fault_proxy
from turnlane import Enqueue, Lanes
from turnlane.engines.postgresql import PostgresqlEngine
from turnlane.engines.redis import RedisEngine
from turnlane.errors import EngineUnavailable, WaitTimeout
from turnlane.postgresql import functions

pytestmark = pytest.mark.timeout(120)

LEASE, TIMEOUT = 2.0, 0.7
A_MOMENT = 2.0  # seconds by which a busy machine may be late
OUTAGES = ("refused", "unanswered", "unheard")
WAITS = Enqueue(wait_timeout=60)


class Place:
    """Lanes beyond a proxy, where the server can be cut off, and others that go past it.

    Mutable: `proxy`, as it is told.
    """

    def __init__(self, kind: str, url: str, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self._kind = kind
        self._url = url
        parts = urlsplit(url)
        user = "postgres@" if kind == "postgresql" else ""
        self._through = urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{proxy.port}"))
        if kind == "postgresql":
            self._through += "&sslmode=disable"

    def lanes(self, *, beyond: bool) -> Lanes:
        """Return lanes, beyond the proxy or not."""
        url = self._through if beyond else self._url
        if self._kind == "redis":
            return Lanes(RedisEngine(url, lease=LEASE, timeout=TIMEOUT))
        return Lanes(PostgresqlEngine(url, lease=LEASE, timeout=TIMEOUT))

    def begin(self, outage: str) -> None:
        """Cut the server off."""
        if outage == "refused":
            self.proxy.refuse(True)
            self.proxy.reset_all()
            return
        fault = Fault(direction="down" if outage == "unanswered" else "up", action="swallow")
        self.proxy.follow(lambda _: fault)
        self.proxy.strike(fault)

    def end(self) -> None:
        """Let it be reached again; what was swallowed never arrives."""
        self.proxy.refuse(False)
        self.proxy.follow(lambda _: None)
        self.proxy.reset_all()

    async def require_free(self, lanes: Lanes) -> None:
        """All lanes are free, and lanes that were cut off get them again."""
        async with asyncio.timeout(LEASE + 3 * A_MOMENT):
            while True:
                try:
                    async with lanes.turn("k", policy=WAITS):
                        break
                except EngineUnavailable:
                    await asyncio.sleep(0.1)  # the network is back, and the first connections may still be lost ones
        async with self.lanes(beyond=False) as others:
            async with others.turn("k", policy=Enqueue(wait_timeout=LEASE + A_MOMENT)):
                pass
            await nothing_left(others)


@pytest.fixture(params=LEASED)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place, None]:
    with empty_place(request.param, tmp_path, request) as url:
        parts = urlsplit(url)
        async with fault_proxy(
            parts.hostname or "", parts.port or (6379 if request.param == "redis" else 5432)
        ) as proxy:
            yield Place(request.param, url, proxy)


@asynccontextmanager
async def within(seconds: float) -> AsyncGenerator[None, None]:
    began = time.monotonic()
    async with asyncio.timeout(seconds + 10):
        yield
    assert time.monotonic() - began < seconds + A_MOMENT


@pytest.mark.parametrize("outage", ["refused", "unanswered"])
async def test_at_the_start_a_turn_is_refused(place: Place, outage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as it was tried for a while; nothing runs without its lane."""
    place.begin(outage)
    opening = 4.0  # seconds PostgreSQL has to make its tables
    monkeypatch.setattr(functions, "TO_OPEN", opening)
    async with place.lanes(beyond=True) as lanes:
        async with within(2 * opening):
            with pytest.raises(EngineUnavailable):
                async with lanes.turn("k"):
                    raise AssertionError("it ran")
        place.end()
        await place.require_free(lanes)


@pytest.mark.parametrize("outage", OUTAGES)
async def test_during_a_wait_a_turn_waits_on(place: Place, outage: str) -> None:
    """For as long as it said; and where the engine is back before, it has its lane."""
    async with place.lanes(beyond=False) as near, place.lanes(beyond=True) as far:
        for lanes in (near, far):
            async with lanes.turn("first"):
                pass
        async with near.turn("k"):
            patient = asyncio.create_task(began_at(far, WAITS))
            await waiting(near, 1)
            hasty = asyncio.create_task(began_at(far, Enqueue(wait_timeout=1.0)))
            await waiting(near, 2)
            place.begin(outage)
            async with within(1.0):
                with pytest.raises(WaitTimeout):
                    await hasty
            place.end()
        async with within(LEASE + A_MOMENT):
            assert await patient
        await place.require_free(far)


@pytest.mark.parametrize("outage", OUTAGES)
async def test_during_a_turn_its_lane_is_lost_before_another_has_it(place: Place, outage: str) -> None:
    """The turn is cancelled while its lease still runs; who waits elsewhere has the lane when that has ended."""
    async with place.lanes(beyond=False) as near, place.lanes(beyond=True) as far:
        async with near.turn("first"):
            pass
        begun, ended = asyncio.Event(), list[float]()

        async def turn() -> None:
            try:
                async with far.turn("k"):
                    begun.set()
                    try:
                        await asyncio.Event().wait()
                    finally:
                        ended.append(time.monotonic())
            finally:
                begun.set()

        lost = asyncio.create_task(turn())
        await begun.wait()
        next_one = asyncio.create_task(began_at(near, WAITS))
        await waiting(near, 1)
        place.begin(outage)
        async with within(LEASE):
            with pytest.raises(EngineUnavailable, match="keep the lane"):
                await lost
        async with within(LEASE):
            assert ended[0] < await next_one
        place.end()
        await place.require_free(far)


@pytest.mark.parametrize("outage", OUTAGES)
async def test_at_the_end_of_a_turn_nobody_waits_for_the_engine(place: Place, outage: str) -> None:
    """The turn ends at once; the lane goes on when its lease has ended, or the engine is back."""
    async with place.lanes(beyond=False) as near, place.lanes(beyond=True) as far:
        async with near.turn("first"):
            pass
        async with far.turn("k"):
            next_one = asyncio.create_task(began_at(near, WAITS))
            await waiting(near, 1)
            place.begin(outage)
            left = time.monotonic()
        assert time.monotonic() - left < A_MOMENT / 2
        async with within(LEASE):
            assert await next_one
        place.end()
        await place.require_free(far)


async def began_at(lanes: Lanes, policy: Enqueue) -> float:
    """Have a turn; return when it began."""
    async with lanes.turn("k", policy=policy):
        return time.monotonic()


async def waiting(lanes: Lanes, count: int) -> None:
    """Return when so many wait: each look is a question to the server."""
    async with asyncio.timeout(20):
        while True:
            views = await engine_of(lanes).look("k")
            if views and len(views[0].waiting) == count:
                return
            await asyncio.sleep(0.01)
