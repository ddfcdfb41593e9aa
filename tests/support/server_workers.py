"""A script: uvicorn with two workers on one SQLite file of sessions. Argument: the file.

The lanes of each worker are its own. Reports `ready` with the port; ends at SIGTERM.
"""

import json
import os
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from support.server_loopback import free_socket
from turnlane import LaneMiddleware, Runtime

FILE = "TURNLANE_TEST_SESSIONS"
WORKERS = 2


async def turn(request: Request) -> Response:
    """Say which process answers, and in which session."""
    session = request.state.turn.session
    return JSONResponse({"process": os.getpid(), "session": session.id, "new": session.is_new})


def app() -> Starlette:
    """Return the app of one worker; called in each of them."""
    runtime = Runtime(sessions=f"sqlite:///{os.environ[FILE]}")
    made = Starlette(routes=[Route("/turn", turn, methods=["POST"])], lifespan=runtime.lifespan)
    made.add_middleware(LaneMiddleware, key="x-session-key", runtime=runtime, trusted_keys=True)
    return made


def main() -> None:
    os.environ[FILE] = sys.argv[1]
    with free_socket() as bound:
        # Clients that are early wait in its queue until a worker is there.
        bound.listen(2048)
        print(json.dumps({"event": "ready", "port": bound.getsockname()[1]}), flush=True)
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
