"""HTTP/2, where the requests of a client share one connection: hypercorn, spoken to with prior knowledge."""

import asyncio

import httpx
import pytest

from support.server_loopback import serving_with
from support.server_staged import Stage, staged_app
from turnlane import LaneMiddleware, Lanes
from turnlane.hooks import TurnQueued, TurnRefused
from turnlane.testing import Gates, assert_no_leaks

pytestmark = pytest.mark.sockets

KEY = "agent:main:alice"


def client_of(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", http1=False, http2=True, trust_env=False, timeout=10)


async def ask(client: httpx.AsyncClient, name: str, key: str = KEY) -> httpx.Response:
    headers = {"x-session-key": key, "x-name": name}
    return await client.post("/answer", content=name * 1000, headers=headers)


async def test_requests_on_one_connection_have_a_turn_each() -> None:
    """Those of one key run one after the other, another key beside them; who goes takes its requests along."""
    stage, lanes = Stage(), Lanes("memory://")
    gates = Gates(lanes.hooks)
    app = LaneMiddleware(staged_app(stage), key="x-session-key", lanes=lanes, trusted_keys=True)
    stage.hold("a")
    async with serving_with("hypercorn", app) as port, client_of(port) as client:
        first = asyncio.create_task(ask(client, "a"))
        await stage.reached("a")
        second = asyncio.create_task(ask(client, "b"))
        await gates.at(TurnQueued).reached()
        async with client_of(port) as leaver:
            # Of a connection of its own: a third request at once on one connection is more than this client does.
            other = await ask(leaver, "c", key="agent:main:bob")
            gone = asyncio.create_task(ask(leaver, "gone"))
            await gates.at(TurnQueued).reached(2)
            gone.cancel()
            await asyncio.wait([gone])
        assert (await gates.at(TurnRefused).reached()).reason == "client_gone"
        stage.let_go("a")
        answers = [await first, await second, other]
    assert [answer.http_version for answer in answers] == ["HTTP/2"] * 3
    assert [answer.json()["name"] for answer in answers] == ["a", "b", "c"]
    assert [answer.json()["length"] for answer in answers] == [1000] * 3
    assert len({answer.json()["turn"] for answer in answers}) == 3
    assert [answer.headers["x-turnlane-position"] for answer in answers] == ["0", "1", "0"]
    assert stage.passed == ["a", "c", "b"]
    assert_no_leaks(lanes)
