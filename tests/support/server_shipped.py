"""A script: the app that a framework ships, in lanes, `server_shipped.py FRAMEWORK DIRECTORY LANES`.

Reports `ready` with its port when it takes requests, `queued` when one finds its lane busy, and `asked` with the text
when the model is; a line of its input is a text the model may answer. Ends at SIGTERM, and with its input.
"""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncGenerator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from support.rigs.contract import ScriptedModel
from support.server_loopback import uvicorn_serving
from turnlane import LaneMiddleware, Runtime
from turnlane.hooks import TurnQueued


class ReportingModel(ScriptedModel):
    """Says what it is asked."""

    async def words(self, said: Sequence[str]) -> AsyncGenerator[str, None]:
        report("asked", text=said[-1])
        async for word in super().words(said):
            yield word


def report(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


async def main(framework: str, directory: str, lanes: str) -> None:
    shipped: Any = import_module(f"support.shipped_{framework}")
    logging.disable()  # what frameworks log goes to the output, too
    model = ReportingModel()
    app = shipped.app_in(Path(directory), model)
    async with Runtime(lanes=lanes) as runtime:
        runtime.hooks.on(TurnQueued, lambda _: report("queued"))
        app.add_middleware(LaneMiddleware, key=shipped.KEY, runtime=runtime, trusted_keys=True)
        async with uvicorn_serving(app) as port:
            report("ready", port=port)
            while line := await asyncio.to_thread(sys.stdin.readline):
                model.go[line.rstrip("\n")].set()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
