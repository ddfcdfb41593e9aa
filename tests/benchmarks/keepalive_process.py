"""The server that `keepalive.py` measures: `python -m benchmarks.keepalive_process AFTER EVERY LOOP`.

AFTER and EVERY are seconds, 0 0 is no keep-alive. Speaks as `server_process` does. `/hold` keeps its lane until its
client leaves.
"""

import asyncio
import sys
import threading

import uvicorn
from starlette.types import Receive, Scope, Send

from benchmarks.peers import HEADER
from benchmarks.report import new_loop
from benchmarks.server_process import Server, follow_input
from turnlane import Enqueue, KeepAlive, LaneMiddleware

__all__ = ("allow_many_sockets",)


def allow_many_sockets() -> None:
    """Raise the number of open files as far as this process may."""
    if sys.platform == "win32":
        return
    import resource  # of POSIX only

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def hold(scope: Scope, receive: Receive, send: Send) -> None:
    """Stay until the client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass


def main(after: str, every: str, loop: str) -> None:
    """Serve until the input ends."""
    allow_many_sockets()
    app = LaneMiddleware(
        hold,
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
