"""The test app in Quart."""

from typing import Any, cast

from quart import Quart, Response, request

from support.server_handlers import HandlerFailed, Settings, facts, pieces
from support.server_staged import Stage
from turnlane import LaneMiddleware

__all__ = ("quart",)


def quart(stage: Stage, settings: Settings) -> Any:
    """Around `app.asgi_app`."""
    # Its types name applications and forms more narrowly than they are.
    app: Any = Quart("turnlane_test")

    async def answer() -> dict[str, Any]:
        body = bytes(await cast("Any", request).get_data())
        await stage.come_to(request.headers["x-name"])
        return facts(request.scope["state"], body)

    async def form() -> dict[str, str]:
        fields: Any = await cast("Any", request).form
        await stage.come_to(request.headers["x-name"])
        return dict(fields.items())

    async def stream() -> Response:
        await request.get_data()
        return Response(pieces(stage, request.headers["x-name"]), mimetype="text/plain")

    async def fail() -> Response:
        await stage.come_to(request.headers["x-name"])
        raise HandlerFailed

    for each in (answer, form, stream, fail):
        app.add_url_rule(f"/{each.__name__}", view_func=each, methods=["POST"])
    app.asgi_app = LaneMiddleware(app.asgi_app, **settings)
    return app
