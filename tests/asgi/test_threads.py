"""Endpoints that work in a thread, which no cancellation can stop."""

import asyncio
import threading
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from turnlane import Interrupt, LaneMiddleware, Lanes
from turnlane.testing import AsgiDriver


class Works:
    """A `def` endpoint that counts how many of it run at once, and waits to be released."""

    def __init__(self, **settings: Any) -> None:
        self.began, self.release = threading.Semaphore(0), threading.Semaphore(0)
        self.running = self.peak = 0
        self.lanes = Lanes()
        app = Starlette(routes=[Route("/", self.work, methods=["POST"])])
        self.app = LaneMiddleware(app, key="x-key", lanes=self.lanes, trusted_keys=True, **settings)

    def work(self, _: Request) -> PlainTextResponse:
        self.running += 1
        self.peak = max(self.peak, self.running)
        self.began.release()
        self.release.acquire(timeout=10)
        self.running -= 1
        return PlainTextResponse("done")


@pytest.mark.parametrize(
    "settings", [{"policy": Interrupt(grace=0)}, {"turn_timeout": 0.1}], ids=["interrupt", "timeout"]
)
async def test_the_lane_waits_for_the_thread(settings: dict[str, Any]) -> None:
    """Neither an interruption nor a timeout lets the successor run beside it."""
    works = Works(**settings)
    async with AsgiDriver(works.app) as driver:
        first = driver.start("POST", "/", headers={"x-key": "a"})
        assert await asyncio.to_thread(works.began.acquire, timeout=5)
        second = driver.start("POST", "/", headers={"x-key": "a"})
        # Past the grace, the timeout and several looks: the first still runs, and alone.
        assert not await asyncio.to_thread(works.began.acquire, timeout=0.3)
        works.release.release()
        assert await asyncio.to_thread(works.began.acquire, timeout=5)
        works.release.release()
        await first.response()
        await second.response()
    assert works.peak == 1


async def test_operations_from_another_thread_are_refused() -> None:
    """They would change the lanes without waking the loop; the message says what to use."""
    lanes = Lanes()
    async with lanes.turn("a"):
        for operation in (lanes.pause, lanes.resume, lanes.interrupt):
            with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                await asyncio.to_thread(operation, "a")
    await asyncio.to_thread(lanes.pause, "a")  # nobody is there whom it could surprise
    lanes.resume("a")
