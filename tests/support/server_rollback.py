"""A script: a chat server whose newest message counts, on files or a database that outlive it.

Arguments: a directory, the URL of the transcripts, and the word of a message whose turn never ends. Reports `ready`,
and `reached` with the word of a message when its turn has stored the question and begun its answer.
"""

import asyncio
import json
import sys
from typing import Any

import uvicorn

from support.server_chat import ChatServer
from support.server_loopback import free_socket
from support.server_staged import Stage
from turnlane import LaneMiddleware, Rollback, Runtime, Transcripts


def report(event: str, **facts: Any) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


class ReportingStage(Stage):
    """Tells whoever started the script."""

    async def come_to(self, place: str) -> None:
        report("reached", word=place)
        await super().come_to(place)


async def main(directory: str, transcripts: str, word: str) -> None:
    stage = ReportingStage()
    stage.hold(word)
    kept = Transcripts(transcripts, trace_turns=True)
    async with Runtime(sessions=f"sqlite:///{directory}/sessions.db", transcripts=kept) as runtime:
        app = LaneMiddleware(
            ChatServer(stage),
            key="x-session-key",
            runtime=runtime,
            policy=Rollback(grace=0),
            trusted_keys=True,
            paths="/v1",
        )
        server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False))
        bound = free_socket()
        bound.listen(2048)
        report("ready", port=bound.getsockname()[1])
        await server.serve(sockets=[bound])


asyncio.run(main(*sys.argv[1:]))
