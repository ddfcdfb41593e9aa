"""A script: the demo's server in a process of its own, which notes what happens to each message.

Arguments: the directory to store in, and `lanes` or `none`. The word `report` on its input makes it wait until every
message that arrived has been dealt with, and report its notes and what its lanes hold.
"""

import asyncio
import json
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvicorn

from support.server_loopback import free_socket
from turnlane import Lanes, Runtime
from turnlane.cli.demo.log import NotedArrivals, TurnLog
from turnlane.cli.demo.model import ScriptedModel
from turnlane.cli.demo.server import create_app, create_protected_app
from turnlane.cli.demo.storage import ConversationStorage

DELAY = 0.002
SETTLED_WITHIN = 20.0


def report(event: str, **facts: Any) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


class Reporter:
    """Answers the word `report`."""

    def __init__(self, server: uvicorn.Server, log: TurnLog, lanes: Lanes) -> None:
        self._server = server
        self._log = log
        self._lanes = lanes

    async def report(self) -> None:
        """Wait until nothing is under way any more, and report."""
        try:
            async with asyncio.timeout(SETTLED_WITHIN):
                # A client that left a moment ago may not have been heard of yet: its connection has.
                while not self._settled():  # noqa: ASYNC110  uvicorn has no event for it
                    await asyncio.sleep(0.02)
        except TimeoutError:
            report("unsettled", snapshot=repr(self._lanes.snapshot()))
        statistics = self._lanes.statistics()
        notes = [asdict(note) for note in self._log.notes()]
        report("report", notes=notes, lanes=statistics.lanes, totals=dict(statistics.totals))

    def _settled(self) -> bool:
        notes = self._log.notes()
        under_way = {note.label for note in notes if note.kind == "arrived"}
        under_way -= {note.label for note in notes if note.kind == "returned"}
        return not under_way and not self._server.server_state.connections


async def main(directory: Path, protected: bool) -> None:
    storage, log, lanes = ConversationStorage(directory), TurnLog(), Lanes("memory://")
    model = ScriptedModel(delay=DELAY)
    if protected:
        runtime = Runtime(lanes=lanes, sessions=f"sqlite:///{directory / 'sessions.db'}")
        app = create_protected_app(model, storage, runtime=runtime, log=log)
    else:
        app = create_app(model, storage, log=log)
    config = uvicorn.Config(NotedArrivals(app, log=log), ws="none", log_level="error", access_log=False)
    server = uvicorn.Server(config)
    reporter = Reporter(server, log, lanes)
    loop = asyncio.get_running_loop()

    def listen() -> None:
        for line in sys.stdin:
            if line.strip() == "report":
                asyncio.run_coroutine_threadsafe(reporter.report(), loop).result()
        server.should_exit = True

    threading.Thread(target=listen, daemon=True).start()
    bound = free_socket()
    bound.listen(2048)
    report("ready", port=bound.getsockname()[1])
    await server.serve(sockets=[bound])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2] == "lanes"))
