"""The server that `keepalive.py` measures: `python -m benchmarks.keepalive_process AFTER EVERY LOOP`.

AFTER and EVERY are seconds, an EVERY of 0 is no keep-alive. Speaks as `server_process` does. A POST keeps its lane from
the first event of its stream until its client leaves; a GET is told how many wait.
"""

import asyncio
import sys
import threading

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from benchmarks.peers import HEADER
from benchmarks.report import new_loop
from benchmarks.server_process import Server, follow_input
from turnlane import Enqueue, KeepAlive, LaneMiddleware, Lanes

__all__ = ("BEGUN", "allow_many_sockets")

BEGUN = b"data: begun\n\n"


def allow_many_sockets() -> None:
    """Raise the number of open files as far as this process may."""
    if sys.platform == "win32":
        return
    import resource  # of POSIX only

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Holds:
    """An app that begins a stream and stays until the client leaves, or tells how many wait."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            await PlainTextResponse(str(self.lanes.statistics().waiting))(scope, receive, send)
            return
        kind = (b"content-type", b"text/event-stream")
        await send({"type": "http.response.start", "status": 200, "headers": [kind]})
        await send({"type": "http.response.body", "body": BEGUN, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass


def main(after: str, every: str, loop: str) -> None:
    """Serve until the input ends."""
    allow_many_sockets()
    lanes = Lanes()
    app = LaneMiddleware(
        Holds(lanes),
        lanes=lanes,
        key=HEADER.decode(),
        trusted_keys=True,
        policy=Enqueue(max_waiting=None, wait_timeout=None),
        keepalive=KeepAlive(after=float(after), every=float(every)) if float(every) else None,
    )
    config = uvicorn.Config(
        app, port=0, lifespan="off", access_log=False, log_level="error", backlog=4096, timeout_graceful_shutdown=1
    )
    server = Server(config)
    threading.Thread(target=follow_input, args=(server,), daemon=True).start()
    with asyncio.Runner(loop_factory=lambda: new_loop(loop)) as runner:
        runner.run(server.serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
