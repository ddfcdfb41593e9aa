"""The test app in Django, which has one settings object and one table of routes per process."""

from importlib import import_module
from typing import Any

from support.server_handlers import HandlerFailed, Settings, facts, pieces
from support.server_staged import Stage
from turnlane import LaneMiddleware

__all__ = ("django",)

# Django has no types: what is imported by name is Any.
conf: Any = import_module("django.conf")
http: Any = import_module("django.http")
urls: Any = import_module("django.urls")
asgi: Any = import_module("django.core.handlers.asgi")

STAGE = "turnlane.test.stage"


async def answer(request: Any) -> Any:
    body = request.body
    await request.scope[STAGE].come_to(request.headers["x-name"])
    return http.JsonResponse(facts(request.scope["state"], body))


async def form(request: Any) -> Any:
    fields = dict(request.POST.items())
    await request.scope[STAGE].come_to(request.headers["x-name"])
    return http.JsonResponse(fields)


async def stream(request: Any) -> Any:
    return http.StreamingHttpResponse(
        pieces(request.scope[STAGE], request.headers["x-name"]), content_type="text/plain"
    )


async def fail(request: Any) -> Any:
    await request.scope[STAGE].come_to(request.headers["x-name"])
    raise HandlerFailed


def django(stage: Stage, settings: Settings) -> Any:
    """Around its ASGI handler."""
    if not conf.settings.configured:
        routes = tuple(urls.path(each.__name__, each) for each in (answer, form, stream, fail))
        conf.settings.configure(
            ALLOWED_HOSTS=["*"], ROOT_URLCONF=routes, MIDDLEWARE=[], SECRET_KEY="none", LOGGING_CONFIG=None
        )
        import_module("django").setup()
    handler = asgi.ASGIHandler()

    async def staged(scope: Any, receive: Any, send: Any) -> None:
        scope[STAGE] = stage
        await handler(scope, receive, send)

    return LaneMiddleware(staged, **settings)
