"""Agents that call agents over real sockets: real servers in processes of their own, httpx and the OpenAI client.

Nothing here is random, so there is no long form: `pytest tests/sockets` is all of it.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from support.net_http import Answer, connected, request
from support.server_process import ServerProcess, server_process

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.timeout(60),
    pytest.mark.asyncio(loop_factories=["asyncio"]),  # the servers run in loops of their own
]

LONG_WAIT = 20.0  # seconds the servers let a request stand in line, if nobody refuses it
AT_ONCE = 5.0  # seconds within which a whole chain of refused calls has come back, on a busy machine


@asynccontextmanager
async def agents(count: int, *, wait_timeout: float = LONG_WAIT) -> AsyncGenerator[list[ServerProcess], None]:
    async with AsyncExitStack() as stack:
        starting = [
            stack.enter_async_context(server_process("server_chains.py", str(wait_timeout))) for _ in range(count)
        ]
        yield await asyncio.gather(*starting)


async def ask(first: ServerProcess, route: list[tuple[ServerProcess, str]], by: str) -> tuple[Answer, float]:
    """Let the first agent, for key `a`, call along the route; return its answer, and how long it took."""
    hops = [[f"http://127.0.0.1:{server.port}", key] for server, key in route]
    began = time.monotonic()
    async with connected(first.port) as connection:
        body = json_body({"route": hops, "with": by})
        await connection.send(request("/v1/chat/completions", body, x_session_key="a", content_type="application/json"))
        answer = await connection.answer()
    return answer, time.monotonic() - began


def json_body(document: object) -> bytes:
    return json.dumps(document).encode()


def calls_in(answer: Answer) -> list[tuple[int, str | None]]:
    """What each agent of the chain got for its call, the first one first."""
    found: list[tuple[int, str | None]] = []
    called: Any = answer.json()["called"]
    while called is not None:
        found.append((called["status"], called["code"]))
        called = called["answer"].get("called")
    return found


@pytest.mark.parametrize("by", ["httpx", "openai"])
async def test_a_cycle_through_two_servers_is_refused_at_once(by: str) -> None:
    """A calls B, which calls A for the conversation whose turn waits for it: 409, not the wait of the line.

    So is the shortest cycle, A calling itself for its own conversation.
    """
    async with agents(2) as (one, other):
        around, seconds = await ask(one, [(other, "b"), (one, "a")], by)
        itself, seconds_alone = await ask(one, [(one, "a")], by)
        again, _ = await ask(one, [(other, "b")], by)
    assert calls_in(around) == [(200, None), (409, "lane_reentry")]
    assert calls_in(itself) == [(409, "lane_reentry")]
    assert max(seconds, seconds_alone) < AT_ONCE
    assert calls_in(again) == [(200, None)]


async def test_a_chain_without_a_cycle_passes() -> None:
    """A calls B, which calls C, which calls A for another conversation."""
    async with agents(3) as (one, two, three):
        for by in ("httpx", "openai"):
            answer, _ = await ask(one, [(two, "a"), (three, "a"), (one, "other")], by)
            assert calls_in(answer) == [(200, None)] * 3


async def test_without_the_header_a_cycle_waits_until_the_line_gives_up() -> None:
    """What the header saves: the same cycle, nothing passed on, ends by `wait_timeout` only."""
    async with agents(2, wait_timeout=1.5) as (one, other):
        answer, seconds = await ask(one, [(other, "b"), (one, "a")], "nothing")
    assert calls_in(answer) == [(200, None), (503, "wait_timeout")]
    assert seconds >= 1.5
