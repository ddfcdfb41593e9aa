"""A script: a server that drains at SIGTERM, run by the tests of shutdown.

Arguments: `uvicorn` or `hypercorn`, `asyncio` or `uvloop`. Reports `ready`, the events of its lanes, and
`lifespan_ended`; the word `go` on its input lets running turns end.
"""

import asyncio
import json
import signal
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any, NoReturn

import hypercorn
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from support.server_loopback import free_socket, serve
from turnlane import LaneMiddleware, Runtime
from turnlane.hooks import Event


def report(event: str, **facts: Any) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


def listen(loop: asyncio.AbstractEventLoop, go: asyncio.Event) -> None:
    """Let turns end when told to."""
    for line in sys.stdin:
        if line.strip() == "go":
            loop.call_soon_threadsafe(go.set)


def app_of(go: asyncio.Event) -> Starlette:
    """Return an app whose turns end when told to."""
    runtime = Runtime(sessions="memory://")
    runtime.hooks.on(Event, lambda event: report(type(event).__name__))

    async def turn(_: Request) -> Response:
        await go.wait()
        return PlainTextResponse("done")

    async def stream(_: Request) -> Response:
        async def pieces() -> AsyncGenerator[str, None]:
            yield "one"
            await go.wait()
            yield "two"

        return StreamingResponse(pieces(), media_type="text/plain")

    @asynccontextmanager
    async def inner(_: Any) -> AsyncGenerator[None, None]:
        thread = threading.Thread(target=listen, args=(asyncio.get_running_loop(), go), daemon=True)
        thread.start()
        yield
        report("lifespan_ended", lanes=runtime.lanes.statistics().lanes)

    routes = [Route("/turn", turn, methods=["POST"]), Route("/stream", stream, methods=["POST"])]
    app = Starlette(routes=routes, lifespan=runtime.lifespan(drain_on_sigterm=True, inner=inner))
    app.add_middleware(LaneMiddleware, key="x-session-key", runtime=runtime, trusted_keys=True)
    return app


async def serve_uvicorn(app: Starlette) -> None:
    bound = free_socket()
    server = uvicorn.Server(uvicorn.Config(app, ws="none", log_config=None, access_log=False))
    bound.listen()
    report("ready", port=bound.getsockname()[1])
    await server.serve(sockets=[bound])


async def serve_hypercorn(app: Starlette) -> None:
    bound = free_socket()
    bound.listen()
    report("ready", port=bound.getsockname()[1])
    config = hypercorn.Config()
    config.bind = [f"fd://{bound.detach()}"]
    config.graceful_timeout = 10
    await serve(app, config)


def end_in_order(number: int, _: FrameType | None) -> NoReturn:
    """Exit with 0: uvicorn sends itself the signal once more when it has shut down, for whoever was there before."""
    sys.exit(0)


async def main() -> None:
    signal.signal(signal.SIGTERM, end_in_order)
    app = app_of(asyncio.Event())
    await (serve_uvicorn(app) if sys.argv[1] == "uvicorn" else serve_hypercorn(app))


if __name__ == "__main__":
    factory = uvloop.new_event_loop if sys.argv[2] == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
