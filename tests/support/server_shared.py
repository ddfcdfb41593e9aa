"""A script: a chat server with four workers of uvicorn, whose lanes are shared.

Arguments: the URL of the lanes, and a directory for sessions and transcripts. Each worker reports `ready` with the port
and its process when it takes requests, also one that is started in the place of another. Ends at SIGTERM.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from support.server_loopback import free_socket
from turnlane import LaneMiddleware, Runtime, Transcripts

LANES, DIRECTORY, PORT = "TURNLANE_TEST_LANES", "TURNLANE_TEST_DIRECTORY", "TURNLANE_TEST_PORT"
WORKERS = 4
DELAY = 0.002


async def chat(request: Request) -> Response:
    """Answer with what was said, behind all that was said before."""
    asked: dict[str, Any] = await request.json()
    text = asked["messages"][-1]["content"]
    async with request.state.turn.open_transcript() as transcript:
        before = len(transcript.entries)
        await transcript.append({"role": "user", "content": text})
        async with transcript.released() as prompt:
            await asyncio.sleep(DELAY)
            prompt.stage({"role": "assistant", "content": f"heard {text}"})
    choice = {"index": 0, "message": {"role": "assistant", "content": f"heard {text}"}, "finish_reason": "stop"}
    facts = {"id": str(before), "object": "chat.completion", "created": 1, "model": str(os.getpid())}
    return JSONResponse({**facts, "choices": [choice]})


@asynccontextmanager
async def report(_: object) -> AsyncGenerator[None, None]:
    """Say that this worker has started."""
    facts = {"event": "ready", "port": int(os.environ[PORT]), "process": os.getpid()}
    os.write(1, json.dumps(facts).encode() + b"\n")  # whole, also where another worker reports at the same time
    yield


def app() -> Starlette:
    """Return the app of one worker; called in each of them."""
    directory = os.environ[DIRECTORY]
    runtime = Runtime(
        lanes=os.environ[LANES],
        sessions=f"sqlite:///{directory}/sessions.db",
        transcripts=Transcripts(f"{directory}/transcripts"),
    )
    lifespan = runtime.lifespan(inner=report)
    made = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])], lifespan=lifespan)
    made.add_middleware(LaneMiddleware, key="x-session-key", runtime=runtime, trusted_keys=True)
    return made


def main() -> None:
    os.environ[LANES], os.environ[DIRECTORY] = sys.argv[1:]
    with free_socket() as bound:
        bound.listen(2048)
        os.environ[PORT] = str(bound.getsockname()[1])
        uvicorn.run(
            "support.server_shared:app",
            factory=True,
            fd=bound.fileno(),
            workers=WORKERS,
            ws="none",
            log_level="error",
            access_log=False,
        )


if __name__ == "__main__":
    main()
