"""A script: agents of a framework behind workers of uvicorn, `server_rigs.py RIG DIRECTORY LANES WORKERS`.

`POST /` with `{"conversation", "text", "stream"}` is answered with what the agent says, `GET /?conversation=` with what
is stored of it. Each worker reports `ready` with the port when it takes requests. Ends at SIGTERM.
"""

import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import astuple

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from support.rigs import Place, ScriptedModel, rig_of
from support.server_loopback import free_socket

ARGUMENTS, PORT = "TURNLANE_TEST_RIG", "TURNLANE_TEST_PORT"


def app() -> Starlette:
    """Return the app of one worker; called in each of them."""
    name, directory, lanes, _ = json.loads(os.environ[ARGUMENTS])
    rig = rig_of(name, Place(directory=directory, lanes=lanes or None), ScriptedModel(seed=os.getpid()))

    async def answer(request: Request) -> Response:
        asked = await request.json()
        if asked["stream"]:
            return StreamingResponse(rig.stream(asked["conversation"], asked["text"]), media_type="text/plain")
        return PlainTextResponse(await rig.answer(asked["conversation"], asked["text"]))

    async def history(request: Request) -> Response:
        return JSONResponse([astuple(line) for line in await rig.history(request.query_params["conversation"])])

    @asynccontextmanager
    async def open_rig(_: object) -> AsyncGenerator[None, None]:
        async with rig:
            facts = {"event": "ready", "port": int(os.environ[PORT])}
            os.write(1, json.dumps(facts).encode() + b"\n")  # whole, also where another worker reports at the same time
            yield

    routes = [Route("/", answer, methods=["POST"]), Route("/", history, methods=["GET"])]
    return Starlette(routes=routes, lifespan=open_rig)


def main() -> None:
    os.environ[ARGUMENTS] = json.dumps(sys.argv[1:])
    with free_socket() as bound:
        bound.listen(2048)
        os.environ[PORT] = str(bound.getsockname()[1])
        uvicorn.run(
            "support.server_rigs:app",
            factory=True,
            fd=bound.fileno(),
            workers=int(sys.argv[4]),
            ws="none",
            log_level="error",
            access_log=False,
            timeout_keep_alive=120,
        )


if __name__ == "__main__":
    main()
