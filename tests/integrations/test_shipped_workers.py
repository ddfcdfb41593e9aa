"""The apps that frameworks ship, unchanged, in several processes that share lanes, one of which is killed."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.postgresql import PostgresqlDatabase
from support.redis_servers import redis_url
from support.rigs import why_not
from support.rigs.contract import reply_to
from support.server_process import ServerProcess, server_process

pytestmark = [pytest.mark.sockets, pytest.mark.timeout(240)]

LEASE = 5  # seconds; a busy machine may well keep a worker from renewing for less
HOMES = ("directory", "redis", "postgresql")


@pytest.fixture(params=["agno", "google_adk"])
def framework(request: pytest.FixtureRequest) -> str:
    """Each that ships an app with sessions of its own."""
    name: str = request.param
    reason = why_not(name)
    if reason is not None:
        pytest.skip(reason)
    return name


@pytest.fixture(params=HOMES)
def lanes(request: pytest.FixtureRequest, framework: str, tmp_path: Path, long_form: bool) -> Iterator[str]:
    """The URL of lanes that nobody has used. The short form takes a directory, and one of the others for each."""
    home: str = request.param
    if not long_form and home == ("redis" if framework == "agno" else "postgresql"):
        pytest.skip("in the long form")
    if home == "redis":
        with redis_url() as url:
            yield f"{url}&lease={LEASE}"
    elif home == "postgresql":
        database: PostgresqlDatabase = request.getfixturevalue("postgresql")
        yield f"{database.new_url()}&lease={LEASE}"
    else:
        yield f"file://{tmp_path}/lanes"


@dataclass(frozen=True)
class Worker:
    """One process that serves the app, and a client of it."""

    process: ServerProcess
    client: httpx.AsyncClient
    shipped: Any

    def ask(self, text: str, *, streaming: bool) -> asyncio.Task[str]:
        return asyncio.create_task(self.shipped.ask(self.client, text, streaming=streaming))

    async def hold(self, text: str, *, streaming: bool) -> asyncio.Task[str]:
        """Ask, and return when the model is asked."""
        asked = self.ask(text, streaming=streaming)
        while (await self.process.reported("asked"))["text"] != text:
            pass
        return asked

    async def stand(self, text: str, *, streaming: bool) -> asyncio.Task[str]:
        """Ask, and return when that waits in its line."""
        asked = self.ask(text, streaming=streaming)
        await self.process.reported("queued")
        return asked


@asynccontextmanager
async def workers(count: int, framework: str, directory: Path, lanes: str) -> AsyncGenerator[list[Worker], None]:
    """Run so many, for the block."""
    shipped: Any = import_module(f"support.shipped_{framework}")
    await shipped.begin(directory)
    async with AsyncExitStack() as stack:
        arguments = (framework, str(directory), lanes)
        async with asyncio.TaskGroup() as starting:
            servers = [server_process("server_shipped.py", *arguments, patience=120) for _ in range(count)]
            tasks = [starting.create_task(stack.enter_async_context(server)) for server in servers]
        found: list[Worker] = []
        for process in [task.result() for task in tasks]:
            client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}", timeout=60)
            found.append(Worker(process, await stack.enter_async_context(client), shipped))
        yield found


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_who_waits_for_one_that_is_killed_is_answered(
    framework: str, lanes: str, streaming: bool, tmp_path: Path, long_form: bool
) -> None:
    """Its own client is told by the broken connection; those in line are answered in their order, and know it all."""
    if not long_form and streaming is lanes.startswith("file:"):
        pytest.skip("in the long form")
    async with workers(3, framework, tmp_path, lanes) as (one, two, three):
        assert await one.ask("hello", streaming=streaming) == reply_to("hello", 0)
        broken = await one.hold("hold this", streaming=streaming)
        second = await two.stand("second", streaming=streaming)
        third = await three.stand("third", streaming=streaming)
        await one.process.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            await broken
        # agno stores a run that ends, google-adk what was said at once.
        known = 1 if framework == "agno" else 2
        assert await second == reply_to("second", known)
        assert await third == reply_to("third", known + 1)


async def test_one_that_is_killed_in_line_is_passed(framework: str, lanes: str, tmp_path: Path) -> None:
    """Its message is in no session, and its client is told by the broken connection."""
    async with workers(3, framework, tmp_path, lanes) as (one, two, three):
        first = await one.hold("hold this", streaming=False)
        dead = await two.stand("dead", streaming=False)
        last = await three.stand("last", streaming=False)
        await two.process.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            await dead
        await one.process.tell("hold this")
        assert await first == reply_to("hold this", 0)
        assert await last == reply_to("last", 1)
