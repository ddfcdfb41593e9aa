"""Threads that stay in turns: endpoints of a server that are not async."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import copy_context
from typing import Any

import anyio
import httpx
import pytest
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from support.blocks import LONGEST, Steps, is_free, turn_of
from support.server_loopback import uvicorn_serving
from turnlane import Enqueue, LaneMiddleware, Lanes, Runtime
from turnlane.hooks import TurnQueued
from turnlane_integrations._blocking import Blocking


@pytest.mark.sockets
@pytest.mark.parametrize("laned", [False, True])
@pytest.mark.parametrize("way", ["inside", "iterate"])
async def test_endpoints_of_a_server_that_are_not_async(way: str, laned: bool) -> None:
    """More at once than there are threads, of one conversation; and then a reader that leaves.

    Starlette does not close what it streams: the lane is free when Python has collected it.
    """
    async with Runtime(lanes=Lanes(policy=Enqueue(max_waiting=100))) as runtime:
        blocking = Blocking(runtime)
        running: Steps = []
        most: list[int] = []

        def answer(request: Request) -> Response:
            with turn_of(blocking, runtime):
                running.append("")
                most.append(len(running))
                running.pop()
            return PlainTextResponse("done")

        async def endless() -> AsyncGenerator[bytes, None]:
            async with runtime.turn("k", join=True):
                while True:
                    yield b"x" * 1000
                    await asyncio.sleep(0.01)  # it does not wait for its reader

        def blocks() -> Generator[bytes, None, None]:
            with turn_of(blocking, runtime):
                while True:
                    yield b"x" * 1000

        def stream(request: Request) -> Response:
            made: Callable[[], Generator[bytes, None, None]] = blocks
            return StreamingResponse(made() if way == "inside" else blocking.iterate(endless, instead="it"))

        app = Starlette(routes=[Route("/answer", answer), Route("/stream", stream)])

        async def collected(scope: Any, receive: Any, send: Any) -> None:
            task, loop = asyncio.current_task(), asyncio.get_running_loop()
            assert task is not None
            if scope["path"] == "/stream":
                task.add_done_callback(lambda _: loop.call_soon(gc.collect))
            await app(scope, receive, send)

        served = LaneMiddleware(collected, key="x-key", runtime=runtime, trusted_keys=True, methods={"GET"})
        limits = httpx.Limits(max_connections=None)
        async with (
            uvicorn_serving(served) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=LONGEST, limits=limits) as client,
        ):
            headers = {"x-key": "k"} if laned else {}
            many = int(anyio.to_thread.current_default_thread_limiter().total_tokens) + 5
            found = await asyncio.gather(*(client.get("/answer", headers=headers) for _ in range(many)))
            assert [each.text for each in found] == ["done"] * many
            assert set(most) == {1}
            async with client.stream("GET", "/stream", headers=headers) as response:
                async for _ in response.aiter_bytes():
                    break
            assert (await client.get("/answer", headers=headers)).text == "done"
        assert is_free(runtime)


async def test_threads_that_wait_leave_their_places_to_others() -> None:
    """All that a server has may wait for a turn, of which what it does needs one more."""
    async with Runtime() as runtime, asyncio.timeout(LONGEST):
        blocking, queued = Blocking(runtime), asyncio.Queue[TurnQueued]()
        runtime.hooks.on(TurnQueued, queued.put_nowait)
        threads = to_thread.current_default_thread_limiter()
        usual, threads.total_tokens = threads.total_tokens, 2
        outside = copy_context()

        def answer() -> None:
            with turn_of(blocking, runtime):
                pass

        async with runtime.turn("k"):
            waiting = [asyncio.create_task(to_thread.run_sync(answer), context=outside.copy()) for _ in range(2)]
            await queued.get()
            await queued.get()
            assert await to_thread.run_sync(lambda: "done") == "done"
        await asyncio.gather(*waiting)
        assert threads.total_tokens == 2
        threads.total_tokens = usual
