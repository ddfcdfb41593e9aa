"""The server that `server.py` measures: `python -m benchmarks.server_process VARIANT LOOP HTTP`.

Prints its port when it listens, then the seconds of processor time it has used for each line on its input; ends with
its input.
"""

import asyncio
import sys
import threading
import time
from typing import cast

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from uvicorn.config import HTTPProtocolType

from benchmarks.peers import HEADER, DefaultDictLock, NoOp
from benchmarks.report import new_loop
from turnlane import LaneMiddleware, Lanes, keys

TURN_SECONDS, LONG_TURN_SECONDS = 0.001, 0.02
USER = "x-user"
NO_CAPS, CAPS = "Lanes without caps", "Lanes with caps"


def user_of(connection: keys.Connection) -> str | None:
    """Say for whom a request is; who asks here is believed."""
    return next((value.decode() for name, value in connection.scope["headers"] if name == USER.encode()), None)


def of_principals(lanes: Lanes) -> list[Middleware]:
    return [Middleware(LaneMiddleware, key=keys.scoped_by(user_of, HEADER.decode()), lanes=lanes)]


VARIANTS: dict[str, list[Middleware]] = {
    "bare": [],
    "no-op pure ASGI": [Middleware(NoOp)],
    "defaultdict(asyncio.Lock)": [Middleware(DefaultDictLock)],
    "LaneMiddleware headers=False": [
        Middleware(LaneMiddleware, key=HEADER.decode(), headers=False, trusted_keys=True),
    ],
    "LaneMiddleware": [Middleware(LaneMiddleware, key=HEADER.decode(), trusted_keys=True)],
    NO_CAPS: of_principals(Lanes(max_running=8)),
    CAPS: of_principals(Lanes(max_running=8, max_running_per_principal=2, max_waiting_per_principal=50)),
}


async def quick(_: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


async def turn(_: Request) -> PlainTextResponse:
    await asyncio.sleep(TURN_SECONDS)
    return PlainTextResponse("ok")


async def long_turn(_: Request) -> PlainTextResponse:
    await asyncio.sleep(LONG_TURN_SECONDS)
    return PlainTextResponse("ok")


def app_of(variant: str) -> Starlette:
    endpoints = {"/quick": quick, "/turn": turn, "/long": long_turn}
    routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in endpoints.items()]
    return Starlette(routes=routes, middleware=VARIANTS[variant])


class Server(uvicorn.Server):
    """Prints its port as soon as it listens."""

    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)


def follow_input(server: uvicorn.Server) -> None:
    for _ in sys.stdin:
        print(time.process_time(), flush=True)
    server.should_exit = True


def main(variant: str, loop: str, http: str) -> None:
    config = uvicorn.Config(
        app_of(variant),
        port=0,
        http=cast("HTTPProtocolType", http),
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=600,
    )
    server = Server(config)
    threading.Thread(target=follow_input, args=(server,), daemon=True).start()
    with asyncio.Runner(loop_factory=lambda: new_loop(loop)) as runner:
        runner.run(server.serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
