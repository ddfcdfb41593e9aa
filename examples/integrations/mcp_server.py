"""An MCP server whose tools share a lane for each MCP session. Run it: two calls of one client at once, and another's.

Needs the package `mcp`, and turnlane[demo] to serve it. Before mcp 2 the class is `mcp.server.fastmcp.FastMCP`.
"""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Context, MCPServer

from turnlane import Runtime, Turn
from turnlane.cli.demo.host import LoopbackServer

server = MCPServer("drafts", log_level="WARNING")
runtime = Runtime()
drafts: dict[str, str] = {}


def session_of(context: Context, *_: object) -> str | None:
    """Return the lane of a call, of any tool that begins with the context: its MCP session.

    Over stdio there is one client, and no request; over SSE the session is in the query.
    """
    request = context.request_context.request
    if request is None:
        return "stdio"
    session: str | None = request.headers.get("mcp-session-id") or request.query_params.get("session_id")
    return session


async def store(key: str, words: str) -> str:
    """Read, think, and write: what two calls of one session at once would do over each other."""
    draft = drafts.get(key, "")
    await asyncio.sleep(0.1)
    drafts[key] = f"{draft} {words}".strip()
    return drafts[key]


@server.tool()
async def write_at_once(context: Context, words: str) -> str:
    """Add words to the draft of this session."""
    return await store(f"unqueued {session_of(context)}", words)


@server.tool()
@runtime.agent_turn(key=session_of)
async def write(context: Context, words: str, *, turn: Turn) -> str:
    """Add words to the draft of this session, when its turn has come."""
    return await store(turn.key, words)


async def say(client: ClientSession, tool: str, words: str) -> None:
    result: Any = await client.call_tool(tool, {"words": words})
    print(f"{tool} {words!r}: {result.content[0].text!r}")


async def main(url: str) -> None:
    async with AsyncExitStack() as stack:
        clients: list[ClientSession] = []
        for _ in range(2):  # each with a session of its own
            streams: Any = await stack.enter_async_context(streamable_http_client(url))
            client = await stack.enter_async_context(ClientSession(streams[0], streams[1]))
            await client.initialize()
            clients.append(client)
        ada, bob = clients
        await asyncio.gather(*(say(ada, "write_at_once", words) for words in ("once", "upon", "a time")))
        turns = (say(ada, "write", words) for words in ("once", "upon", "a time"))
        await asyncio.gather(*turns, say(bob, "write", "dear Ada"))


if __name__ == "__main__":
    with LoopbackServer(server.streamable_http_app()) as host:
        asyncio.run(main(f"{host.url}/mcp"))
