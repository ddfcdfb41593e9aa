"""The test app in Starlette and in FastAPI."""

from typing import Any

from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from support.server_handlers import HandlerFailed, Settings, facts, pieces
from support.server_staged import Stage
from turnlane import LaneMiddleware

__all__ = ("fastapi", "starlette", "starlette_decorated", "starlette_mounted")


def routes_of(stage: Stage) -> list[Route]:
    async def answer(request: Request) -> Response:
        body = await request.body()
        await stage.come_to(request.headers["x-name"])
        return JSONResponse(facts({"turn": getattr(request.state, "turn", None)}, body))

    async def form(request: Request) -> Response:
        fields = await request.form()
        await stage.come_to(request.headers["x-name"])
        return JSONResponse({name: str(value) for name, value in fields.items()})

    async def stream(request: Request) -> Response:
        await request.body()
        return StreamingResponse(pieces(stage, request.headers["x-name"]), media_type="text/plain")

    async def fail(request: Request) -> Response:
        await stage.come_to(request.headers["x-name"])
        raise HandlerFailed

    return [Route(f"/{each.__name__}", each, methods=["POST"]) for each in (answer, form, stream, fail)]


def starlette(stage: Stage, settings: Settings) -> Any:
    """`app.add_middleware`."""
    app = Starlette(routes=routes_of(stage))
    app.add_middleware(LaneMiddleware, **settings)
    return app


async def passed_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


def starlette_decorated(stage: Stage, settings: Settings) -> Any:
    """Between two middlewares of the kind that runs what is inside it in a task of its own."""
    app = Starlette(routes=routes_of(stage))
    app.add_middleware(BaseHTTPMiddleware, dispatch=passed_on)
    app.add_middleware(LaneMiddleware, **settings)
    app.add_middleware(BaseHTTPMiddleware, dispatch=passed_on)
    return app


def starlette_mounted(stage: Stage, settings: Settings) -> Any:
    """Around one mounted app only."""
    return Starlette(routes=[Mount("/", LaneMiddleware(Starlette(routes=routes_of(stage)), **settings))])


async def body_of(request: Request) -> bytes:
    return await request.body()


def fastapi(stage: Stage, settings: Settings) -> Any:
    """`app.add_middleware`; the body is read by a dependency."""
    app = FastAPI()
    app.add_middleware(LaneMiddleware, **settings)

    async def answer(request: Request, body: bytes = Depends(body_of)) -> dict[str, Any]:
        await stage.come_to(request.headers["x-name"])
        return facts({"turn": getattr(request.state, "turn", None)}, body)

    async def form(request: Request) -> dict[str, str]:
        fields = await request.form()
        await stage.come_to(request.headers["x-name"])
        return {name: str(value) for name, value in fields.items()}

    async def stream(request: Request, body: bytes = Depends(body_of)) -> StreamingResponse:
        return StreamingResponse(pieces(stage, request.headers["x-name"]), media_type="text/plain")

    async def fail(request: Request) -> None:
        await stage.come_to(request.headers["x-name"])
        raise HandlerFailed

    for each in (answer, form, stream, fail):
        app.post(f"/{each.__name__}", response_model=None)(each)
    return app
