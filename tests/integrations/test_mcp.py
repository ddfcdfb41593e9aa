"""Tools of an MCP server that share a lane for each MCP session, with real clients over a real transport."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mcp
import pytest
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from support.example_output import example_output
from support.server_loopback import uvicorn_serving
from turnlane import Runtime, Turn
from turnlane.hooks import TurnQueued

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context, MCPServer
else:
    try:
        from mcp.server.mcpserver import Context, MCPServer
    except ImportError:  # before mcp 2
        from mcp.server.fastmcp import Context
        from mcp.server.fastmcp import FastMCP as MCPServer

pytestmark = [
    pytest.mark.sockets,
    # Newer pydantic-settings say so of the server's settings in mcp 1.
    pytest.mark.filterwarnings("ignore:Field 'lifespan' has an incomplete definition"),
]

NEW = hasattr(mcp, "Client")  # since mcp 2


def session_of(context: Context, *_: object) -> str | None:
    """As in the example."""
    request = context.request_context.request
    if request is None:
        return "stdio"
    session: str | None = request.headers.get("mcp-session-id") or request.query_params.get("session_id")
    return session


class Served:
    """A server with one tool, which answers a message with `hold` in it when `go` is set."""

    def __init__(self) -> None:
        self.runtime = Runtime()
        self.said: list[str] = []
        self.go = asyncio.Event()
        self.entered = asyncio.Event()
        self.queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
        self.runtime.hooks.on(TurnQueued, self.queued.put_nowait)
        self.server = MCPServer("served", log_level="WARNING")
        for tool in (self.say, self.recall):
            self.server.tool()(self.runtime.agent_turn(key=session_of)(tool))

    async def say(self, context: Context, words: str, *, turn: Turn) -> str:
        """Say something."""
        self.said.append(words)
        self.entered.set()
        if "hold" in words:
            await self.go.wait()
        return f"{words} in {turn.key}"

    async def recall(self, context: Context, *, turn: Turn) -> str:
        """Tell what was said; it has other arguments."""
        return f"{self.said} in {turn.key}"


@asynccontextmanager
async def served(path: str = "/mcp") -> AsyncGenerator[tuple[Served, str], None]:
    """Serve the tool over loopback, for the block; yields its address too."""
    found = Served()
    app = found.server.sse_app() if path == "/sse" else found.server.streamable_http_app()
    async with found.runtime, uvicorn_serving(app) as port:
        yield found, f"http://127.0.0.1:{port}{path}"
        assert found.runtime.lanes.statistics().lanes == 0


@asynccontextmanager
async def client_of(url: str) -> AsyncGenerator[ClientSession, None]:
    """Open a session, for the block."""
    async with AsyncExitStack() as stack:
        transport: Any = sse_client(url) if url.endswith("/sse") else streamable_http_client(url)
        streams: Any = await stack.enter_async_context(transport)
        client = await stack.enter_async_context(ClientSession(streams[0], streams[1]))
        await client.initialize()
        yield client


async def say(client: Any, words: str) -> str:
    result: Any = await client.call_tool("say", {"words": words})
    return str(result.content[0].text)


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
async def test_calls_of_one_session_run_in_their_order(path: str) -> None:
    """A call of another session does not wait for them; `turn` is no argument that clients see."""
    async with served(path) as (found, url), client_of(url) as ada, client_of(url) as bob:
        tool = next(tool for tool in (await ada.list_tools()).tools if tool.name == "say")
        schema: Any = getattr(tool, "input_schema", None) or getattr(tool, "inputSchema", None)
        assert set(schema["properties"]) == {"words"}
        asked = [asyncio.create_task(say(ada, "hold"))]
        await found.entered.wait()
        for words in ("two", "three"):
            asked.append(asyncio.create_task(say(ada, words)))
            await found.queued.get()
        other = await say(bob, "of bob")
        assert found.said == ["hold", "of bob"]
        found.go.set()
        answers = await asyncio.gather(*asked)
        assert found.said == ["hold", "of bob", "two", "three"]
        sessions = [answer.partition(" in ")[2] for answer in (*answers, other)]
        assert len(set(sessions[:3])) == 1
        assert sessions[3] != sessions[0]


async def test_tools_with_other_arguments_share_the_lane() -> None:
    """One key is enough for them; what is asked for while another tool runs waits for it."""
    async with served() as (found, url), client_of(url) as client:
        first = asyncio.create_task(say(client, "hold"))
        await found.entered.wait()
        second = asyncio.create_task(client.call_tool("recall", {}))
        await found.queued.get()
        assert not second.done()
        found.go.set()
        answer: Any = (await second).content[0]
        assert answer.text == f"['hold'] in {(await first).partition(' in ')[2]}"


@pytest.mark.skipif(not NEW, reason="before mcp 2 clients tell nobody that they have given up")
async def test_a_call_that_is_given_up_leaves_the_line() -> None:
    """Its tool never runs, and who stands behind it is next."""
    async with served() as (found, url), client_of(url) as client:
        first = asyncio.create_task(say(client, "hold"))
        await found.entered.wait()
        given_up = asyncio.create_task(say(client, "never mind"))
        await found.queued.get()
        third = asyncio.create_task(say(client, "three"))
        await found.queued.get()
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        async with asyncio.timeout(20):
            while found.runtime.lanes.statistics().waiting > 1:
                await client.list_tools()  # the server hears of it by another message
        found.go.set()
        await asyncio.gather(first, third)
        assert found.said == ["hold", "three"]


@pytest.mark.skipif(not NEW, reason="this version has sessions only")
async def test_a_call_without_a_session_does_not_run(caplog: pytest.LogCaptureFixture) -> None:
    """The protocol of 2026-07-28 has none: the server's log says what is missing, clients are told of an error only."""
    client_class: Any = getattr(mcp, "Client", None)
    async with served() as (found, url), client_class(url, mode="2026-07-28") as client:
        assert await say(client, "one") == "Error executing tool say"
        assert found.said == []
    assert "SessionKeyRequired: this request must name its session in key of Served.say" in caplog.text


@pytest.mark.skipif(not NEW, reason="before mcp 2 the class has another name")
def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, without a warning; three calls at once lose two without lanes, and none with them."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    said = "\n".join(example_output("mcp_server.py", directory=tmp_path))
    assert sorted(re.findall("^write_at_once .*: (.*)$", said, re.MULTILINE)) == ["'a time'", "'once'", "'upon'"]
    assert sorted(re.findall("^write (.*)$", said, re.MULTILINE), key=len) == [
        "'once': 'once'",
        "'upon': 'once upon'",
        "'dear Ada': 'dear Ada'",
        "'a time': 'once upon a time'",
    ]
