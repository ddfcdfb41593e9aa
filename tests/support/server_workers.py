"""A script: a chat server with several workers of uvicorn that share what its argument says.

Its argument is that of a `Shared`. Each worker reports `ready` with the port and its process when it takes requests,
also one that is started in the place of another, and `inside` with its process when it asks the model that never
answers. Ends at SIGTERM.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from inspect import signature
from itertools import count
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from support.server_loopback import free_socket
from turnlane import LaneMiddleware, Runtime, Turn
from turnlane.hooks import TurnQueued

__all__ = ("ENDLESS", "Shared")

SHARED, PORT = "TURNLANE_TEST_SHARED", "TURNLANE_TEST_PORT"
# On a busy machine uvicorn takes a worker that still starts for dead after five seconds, and closes connections that
# clients are about to use again. Its older versions can not be told the first. It waits as long for one that was killed
# while it was asked.
PATIENT: dict[str, Any] = {"timeout_keep_alive": 120, "timeout_worker_healthcheck": 20}
ENDLESS = "endless"  # the model that never answers
DELAY = 0.05  # seconds the other one takes for half an answer: clients are slow, and a kill is to meet turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Where the workers have what they share; what is None each of them has for itself, or not at all."""

    sessions: str
    lanes: str = "memory://"
    transcripts: str | None = None
    workers: int = 4

    @property
    def argument(self) -> str:
        """What the script is told."""
        return json.dumps(asdict(self))


class Worker:
    """The app of one worker.

    Mutable: `_queued`, by turn the number it had among those of this worker that found their lane busy.
    """

    def __init__(self, shared: Shared) -> None:
        self._queued: dict[str, int] = {}
        self._numbers = count(1)
        runtime = Runtime(lanes=shared.lanes, sessions=shared.sessions, transcripts=shared.transcripts)
        runtime.hooks.on(TurnQueued, self._stands_in_line)
        routes = [
            Route("/turn", self.turn, methods=["POST"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes, lifespan=runtime.lifespan(inner=reporting))
        self.app.add_middleware(LaneMiddleware, key="x-session-key", runtime=runtime, trusted_keys=True)

    def _stands_in_line(self, event: TurnQueued) -> None:
        self._queued[event.turn] = next(self._numbers)

    async def turn(self, request: Request) -> Response:
        """Say which process answers, and in which session."""
        session = request.state.turn.session
        return JSONResponse({"process": os.getpid(), "session": session.id, "new": session.is_new})

    async def chat(self, request: Request) -> Response:
        """Answer with what was said. The end of an answer is told when the transcript has all of it."""
        asked: dict[str, Any] = await request.json()
        pieces = self._answered(request.state.turn, asked["messages"][-1]["content"], asked["model"])
        if asked.get("stream"):
            return StreamingResponse(_events(pieces), media_type="text/event-stream")
        said = "".join([piece async for piece in pieces])
        return JSONResponse(_part("chat.completion", message={"role": "assistant", "content": said}, end="stop"))

    async def _answered(self, turn: Turn, text: str, model: str) -> AsyncGenerator[str, None]:
        about = {"token": turn.token, "process": os.getpid(), "queued": self._queued.pop(turn.id, None)}
        async with turn.open_transcript() as transcript:
            await transcript.append({"role": "user", "content": text, **about})
            async with transcript.released() as prompt:
                if model == ENDLESS:
                    report("inside")
                    await asyncio.Event().wait()
                for piece in ("heard ", text):
                    await asyncio.sleep(DELAY)
                    yield piece
                prompt.stage({"role": "assistant", "content": f"heard {text}", **about})


async def _events(pieces: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    async for piece in pieces:
        yield f"data: {json.dumps(_part('chat.completion.chunk', delta={'content': piece}))}\n\n"
    yield f"data: {json.dumps(_part('chat.completion.chunk', delta={}, end='stop'))}\n\ndata: [DONE]\n\n"


def _part(kind: str, *, end: str | None = None, **what: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": end, **what}
    return {"id": "1", "object": kind, "created": 1, "model": str(os.getpid()), "choices": [choice]}


def report(event: str) -> None:
    """Say what this worker does."""
    facts = {"event": event, "port": int(os.environ[PORT]), "process": os.getpid()}
    os.write(1, json.dumps(facts).encode() + b"\n")  # whole, also where another worker reports at the same time


@asynccontextmanager
async def reporting(_: object) -> AsyncGenerator[None, None]:
    """Say that this worker has started."""
    report("ready")
    yield


def app() -> Starlette:
    """Return the app of one worker; called in each of them."""
    return Worker(Shared(**json.loads(os.environ[SHARED]))).app


def main() -> None:
    os.environ[SHARED] = sys.argv[1]
    with free_socket() as bound:
        # Those whose worker has not started yet wait in its queue, or another one takes them.
        bound.listen(2048)
        os.environ[PORT] = str(bound.getsockname()[1])
        uvicorn.run(
            "support.server_workers:app",
            factory=True,
            fd=bound.fileno(),
            workers=Shared(**json.loads(sys.argv[1])).workers,
            ws="none",
            log_level="error",
            access_log=False,
            **{name: value for name, value in PATIENT.items() if name in signature(uvicorn.run).parameters},
        )


if __name__ == "__main__":
    main()
