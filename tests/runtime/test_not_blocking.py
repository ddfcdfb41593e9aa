"""No blocking call on the event loop, whatever a turn does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from support.turns_steps import apart, held, until_idle
from turnlane import Interrupt, LaneMiddleware, Runtime, Turn
from turnlane.errors import TurnInterrupted
from turnlane.hooks import Event, LoggingHook
from turnlane.testing import AsgiDriver


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_nothing_blocks_the_loop(kind: str, tmp_path: Path) -> None:
    """Opening, every kind of turn, waiting, interruption, hooks, the middleware, draining, closing."""
    heard: list[Event] = []

    async def listen(event: Event) -> None:
        heard.append(event)

    with blockbuster_ctx():
        url = "memory://" if kind == "memory" else f"sqlite:///{tmp_path}/sessions.db"
        runtime = Runtime(sessions=url, hooks=[LoggingHook()])
        runtime.hooks.on(Event, listen)

        @runtime.agent_turn(key="key", session_id="session_id")
        async def answer(key: str, session_id: str | None = None, *, turn: Turn) -> str:
            assert turn.session is not None
            return turn.session.id

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[str]:
            yield await answer(key)
            yield "more"

        async def endpoint(request: Request) -> PlainTextResponse:
            return PlainTextResponse(await answer("a"))

        async def stopped() -> None:
            async with runtime.turn("a"):
                await asyncio.Event().wait()

        app: Any = Starlette(routes=[Route("/", endpoint, methods=["POST"])], lifespan=runtime.lifespan)
        app.add_middleware(LaneMiddleware, key="x-session-key", runtime=runtime, trusted_keys=True)
        async with AsgiDriver(app) as driver, driver.lifespan():
            found = set(await asyncio.gather(*(answer("a") for _ in range(10))))
            found |= {await answer("b", next(iter(found)))}
            found |= {item async for item in stream("a") if item != "more"}
            items = stream("a")
            await anext(items)
            await items.aclose()
            requests = [driver.start("POST", headers={"x-session-key": "a"}) for _ in range(5)]
            found |= {(await request.response()).text for request in requests}
            task = apart(stopped())
            await until_idle()
            async with runtime.turn("a", policy=Interrupt(grace=0)):
                pass
            with pytest.raises(TurnInterrupted):
                await task
            async with held(runtime.lanes, "a"):
                waiting = apart(answer("a"))
                await until_idle()
                await runtime.drain(timeout=0)
                await asyncio.wait({waiting})
                assert waiting.exception() is not None
    assert len(found) == 1
    assert len(heard) > 20
