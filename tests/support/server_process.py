"""A server in a process of its own that reports on its output, line by line, and is told things on its input."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ("WARNINGS", "ServerProcess", "server_process")

WARNINGS = (
    "-Werror",
    "-Wignore:SelectableGroups dict interface:DeprecationWarning",
    "-Wignore:BaseAgentConfig is deprecated:DeprecationWarning",
)
"""The options of a Python that keeps to the warnings of pytest's settings."""


class ServerProcess:
    """A running process. Its reports are JSON objects with a member `event`; the first is `ready` and has its port."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.port = 0

    async def reported(self, event: str, *, timeout: float = 20) -> dict[str, Any]:
        """Return the next report of this event, passing over others.

        Raises:
            AssertionError: the process ended without one.
        """
        stdout = self._process.stdout
        assert stdout is not None
        async with asyncio.timeout(timeout):
            while line := await stdout.readline():
                report: dict[str, Any] = json.loads(line)
                if report["event"] == event:
                    return report
            raise AssertionError(f"the process ended with {await self._process.wait()} and reported no {event!r}")

    async def tell(self, text: str) -> None:
        """Write a line to its input."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(text.encode() + b"\n")
        await stdin.drain()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    async def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        self._process.kill()
        await self.ended()

    async def ended(self, *, timeout: float = 20) -> int:
        """Return its exit status once it has ended."""
        async with asyncio.timeout(timeout):
            return await self._process.wait()

    async def aclose(self) -> None:
        """End it if it still runs: in order, so that it ends its own workers, or else by force, and them too."""
        if self._process.returncode is None:
            self.terminate()
            with suppress(TimeoutError):
                await self.ended(timeout=3)
        if sys.platform != "win32":
            with suppress(ProcessLookupError):  # workers whose parent was killed go on, and keep its output
                os.killpg(self._process.pid, signal.SIGKILL)
        elif self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()


@asynccontextmanager
async def server_process(script: str, *arguments: str, patience: float = 40) -> AsyncGenerator[ServerProcess, None]:
    """Run a script of this directory for the block; it takes requests when the block begins.

    Args:
        script: its name.
        arguments: what it is given.
        patience: seconds it may take until then; on a busy machine imports take their time.
    """
    path = Path(__file__).with_name(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *WARNINGS, str(path), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
        env=environment,
        start_new_session=True,
    )
    server = ServerProcess(process)
    try:
        server.port = (await server.reported("ready", timeout=patience))["port"]
        yield server
    finally:
        await server.aclose()
