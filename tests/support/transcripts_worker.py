"""A process that forks a worker for each job it is sent: `transcripts_worker.py FD`, a socket that brings them.

A worker that is forked has everything imported already, which takes longer than what is watched in it.
"""

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

from support.transcripts_jobs import BURIALS, JOBS, Say
from turnlane.errors import TranscriptError
from turnlane.transcripts import Transcripts

__all__ = ()

SET_PTRACER = 0x59616D61  # prctl: where only a parent may trace, let anybody trace this process
ANYBODY = ctypes.c_ulong(-1)
LOCK_TIMEOUT = 0.2


class Channel:
    """The worker's side of the socket its job came with."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._handed: list[str] = []

    def tell(self, **report: Any) -> None:
        self._connection.sendall(json.dumps(report).encode() + b"\n")

    def ready(self) -> None:
        self.tell(event="ready", pid=os.getpid())
        self._connection.recv(1)

    def handing(self, *texts: str) -> None:
        self._handed += texts

    def stored(self, *texts: str) -> None:
        self.tell(event="stored", texts=texts)

    def raised(self, error: Exception) -> None:
        text = "\n".join([str(error), *getattr(error, "__notes__", ())])
        ours = isinstance(error, TranscriptError)
        self.tell(event="raised", type=type(error).__name__, ours=ours, text=text, handed=self._handed)


async def work(request: Mapping[str, Any], channel: Channel) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: channel.tell(event="loop", text=str(context)))
    transcripts = Transcripts(request["directory"], durability=request["durability"], lock_timeout=LOCK_TIMEOUT)
    try:
        await {**JOBS, **BURIALS}[request["job"]](transcripts, Say(channel.ready, channel.handing, channel.stored))
    except Exception as error:
        channel.raised(error)
    else:
        channel.tell(event="done")


def serve(jobs: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers
    while True:
        message, fds, _, _ = socket.recv_fds(jobs, 65536, 1)
        if not message:
            return
        with socket.socket(fileno=fds[0]) as connection:
            if os.fork() == 0:
                try:
                    ctypes.CDLL(None).prctl(SET_PTRACER, ANYBODY, 0, 0, 0)
                    asyncio.run(work(json.loads(message), Channel(connection)))
                finally:
                    os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
