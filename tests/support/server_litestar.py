"""The test app in Litestar."""

from typing import Any

from litestar import Litestar, Request, post
from litestar.middleware import DefineMiddleware
from litestar.response import Stream

from support.server_handlers import HandlerFailed, Settings, facts, pieces
from support.server_staged import Stage
from turnlane import LaneMiddleware

__all__ = ("litestar", "litestar_wrapped")

AnyRequest = Request[Any, Any, Any]


def app_of(stage: Stage, middleware: list[Any]) -> Litestar:
    @post("/answer", status_code=200)
    async def answer(request: AnyRequest) -> dict[str, Any]:
        body = await request.body()
        await stage.come_to(request.headers["x-name"])
        return facts({"turn": getattr(request.state, "turn", None)}, body)

    @post("/form", status_code=200)
    async def form(request: AnyRequest) -> dict[str, str]:
        fields = await request.form()
        await stage.come_to(request.headers["x-name"])
        return {name: str(value) for name, value in fields.items()}

    @post("/stream", status_code=200)
    async def stream(request: AnyRequest) -> Stream:
        await request.body()
        return Stream(pieces(stage, request.headers["x-name"]), media_type="text/plain")

    @post("/fail", status_code=200)
    async def fail(request: AnyRequest) -> None:
        await stage.come_to(request.headers["x-name"])
        raise HandlerFailed

    return Litestar(route_handlers=[answer, form, stream, fail], middleware=middleware)


def litestar(stage: Stage, settings: Settings) -> Any:
    """In the list of middleware."""
    made: Any = LaneMiddleware  # its types and Litestar's name the same messages differently
    return app_of(stage, [DefineMiddleware(made, **settings)])


def litestar_wrapped(stage: Stage, settings: Settings) -> Any:
    """Around the whole app."""
    app: Any = app_of(stage, [])
    return LaneMiddleware(app, **settings)
