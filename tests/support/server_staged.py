"""An app whose requests stop where the test wants them to, and that notes what ran and in which order."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from turnlane import current_turn

__all__ = ("Stage", "staged_app")

DEADLINE = 10.0


class Stage:
    """Names places in the code of an app. A place that is held stops whoever comes there until it is let go.

    Mutable: `passed`, the places in the order they were come to; `_events`, per place: come to, and let go.
    """

    def __init__(self) -> None:
        self.passed: list[str] = []
        self._reached: dict[str, asyncio.Event] = {}
        self._held: dict[str, asyncio.Event] = {}

    def hold(self, *places: str) -> None:
        """Stop whoever comes to one of these places."""
        for place in places:
            self._held[place] = asyncio.Event()

    def let_go(self, *places: str) -> None:
        """Let whoever stops there go on, and hold it no longer."""
        for place in places:
            self._held[place].set()

    async def reached(self, *places: str) -> None:
        """Wait until somebody has come to each of these places."""
        async with asyncio.timeout(DEADLINE):
            for place in places:
                await self._reached.setdefault(place, asyncio.Event()).wait()

    async def come_to(self, place: str) -> None:
        """Be at a place; for the app."""
        self.passed.append(place)
        self._reached.setdefault(place, asyncio.Event()).set()
        if place in self._held:
            await self._held[place].wait()

    def leave(self, place: str) -> None:
        """Note that a place was left; for the app."""
        self.passed.append(f"{place} left")
        self._reached.setdefault(f"{place} left", asyncio.Event()).set()


def facts_of(request: Request, body: bytes) -> dict[str, Any]:
    """What a handler sees: the body it was given and the turn it runs in."""
    turn = current_turn()
    placed = getattr(request.state, "turn", None)
    return {
        "name": request.headers.get("x-name"),
        "length": len(body),
        "digest": hashlib.sha256(body).hexdigest(),
        "turn": None if turn is None else turn.id,
        "key": None if turn is None else turn.key,
        "same": turn is placed,
        "session": None if turn is None or turn.session is None else turn.session.id,
    }


def staged_app(stage: Stage, **options: Any) -> Starlette:
    """Return an app with `/answer`, `/stream`, `/background` and `/unread`; the header `x-name` names its places.

    `/answer` reads the body and is at `<name>`. `/stream` sends one piece, is at `<name>`, and sends another.
    `/background` answers at once and is at `<name>` after its response. `/unread` is at `<name>` and then reads.
    """

    async def answer(request: Request) -> Response:
        body = await request.body()
        await stage.come_to(request.headers["x-name"])
        return JSONResponse(facts_of(request, body))

    async def unread(request: Request) -> Response:
        await stage.come_to(request.headers["x-name"])
        return JSONResponse(facts_of(request, await request.body()))

    async def stream(request: Request) -> Response:
        name = request.headers["x-name"]

        async def pieces() -> AsyncGenerator[str, None]:
            try:
                yield "one"
                await stage.come_to(name)
                yield "two"
            finally:
                stage.leave(name)

        return StreamingResponse(pieces(), media_type="text/plain")

    async def background(request: Request) -> Response:
        body = await request.body()
        return JSONResponse(
            facts_of(request, body), background=BackgroundTask(stage.come_to, request.headers["x-name"])
        )

    endpoints = (answer, stream, background, unread)
    routes = [Route(f"/{each.__name__}", each, methods=["POST", "GET"]) for each in endpoints]
    return Starlette(routes=routes, **options)
