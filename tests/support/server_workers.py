"""A script: uvicorn with two workers on one SQLite file of sessions. Argument: the file.

The lanes of each worker are its own. Each reports `ready` with the port when it takes requests; ends at SIGTERM.
"""

import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from support.server_loopback import free_socket
from turnlane import LaneMiddleware, Runtime

FILE, PORT = "TURNLANE_TEST_SESSIONS", "TURNLANE_TEST_PORT"
WORKERS = 2


async def turn(request: Request) -> Response:
    """Say which process answers, and in which session."""
    session = request.state.turn.session
    return JSONResponse({"process": os.getpid(), "session": session.id, "new": session.is_new})


@asynccontextmanager
async def report(_: object) -> AsyncGenerator[None, None]:
    """Say that this worker has started."""
    ready = json.dumps({"event": "ready", "port": int(os.environ[PORT])})
    os.write(1, ready.encode() + b"\n")  # whole, also where another worker reports at the same time
    yield


def app() -> Starlette:
    """Return the app of one worker; called in each of them."""
    runtime = Runtime(sessions=f"sqlite:///{os.environ[FILE]}")
    lifespan = runtime.lifespan(inner=report)
    made = Starlette(routes=[Route("/turn", turn, methods=["POST"])], lifespan=lifespan)
    made.add_middleware(LaneMiddleware, key="x-session-key", runtime=runtime, trusted_keys=True)
    return made


def main() -> None:
    os.environ[FILE] = sys.argv[1]
    with free_socket() as bound:
        # Those whose worker has not started yet wait in its queue, or the other one takes them.
        bound.listen(2048)
        os.environ[PORT] = str(bound.getsockname()[1])
        uvicorn.run(
            "support.server_workers:app",
            factory=True,
            fd=bound.fileno(),
            workers=WORKERS,
            ws="none",
            log_level="error",
            access_log=False,
        )


if __name__ == "__main__":
    main()
