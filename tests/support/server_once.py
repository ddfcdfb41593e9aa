"""A script: a server whose messages run once, on a file that other processes share.

Arguments: the file, and `refuse` or `wait`. Reports `ready`, and `called` with the name of each request its app is
called for; a name on its input lets that request end, `*` lets all of them.
"""

import asyncio
import json
import sys
import threading
from collections import defaultdict
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from support.server_loopback import free_socket
from turnlane import LaneMiddleware, Runtime
from turnlane.duplicates import Duplicates
from turnlane.hooks import DuplicateRefused, Event, TurnQueued


def report(event: str, **facts: Any) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


class Once:
    """Answers each request with its name, when it is told to."""

    def __init__(self) -> None:
        self.all = False
        self.go: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        name = request.headers["x-name"]
        report("called", name=name)
        if not self.all:
            await self.go[name].wait()
        await PlainTextResponse(name)(scope, receive, send)

    def told(self, name: str) -> None:
        self.all = self.all or name == "*"
        self.go[name].set()

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(self.told, line.strip())


async def main(file: str, while_running: Any) -> None:
    once, runtime = Once(), Runtime()
    for event_class in (TurnQueued, DuplicateRefused):
        hear: Any = event_class
        runtime.hooks.on(hear, heard)
    threading.Thread(target=once.listen, args=(asyncio.get_running_loop(),), daemon=True).start()
    async with Duplicates(f"sqlite:///{file}", while_running=while_running) as duplicates:
        app = LaneMiddleware(once, key="x-session-key", runtime=runtime, idempotency=duplicates, trusted_keys=True)
        server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False))
        bound = free_socket()
        bound.listen(2048)
        report("ready", port=bound.getsockname()[1])
        await server.serve(sockets=[bound])


def heard(event: Event) -> None:
    report(type(event).__name__)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
