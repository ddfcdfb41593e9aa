"""SIGTERM to a server process: who waits is answered at once, who runs may finish, the process ends in order."""

import sys

import pytest

from support.net_http import connected, request
from support.server_process import ServerProcess, server_process

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.timeout(60),
    pytest.mark.asyncio(loop_factories=["asyncio"]),
    pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM is not delivered there"),
]

KEY = "agent:main:alice"
SERVERS = ["uvicorn asyncio", "uvicorn uvloop", "hypercorn asyncio", "hypercorn uvloop"]


async def ended_in_order(process: ServerProcess) -> None:
    assert (await process.reported("lifespan_ended"))["lanes"] == 0
    assert await process.ended() == 0


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("path", ["/turn", "/stream"])
async def test_sigterm_answers_who_waits_and_lets_who_runs_finish(server: str, path: str) -> None:
    """503 with Retry-After to both that wait, before the running turn has ended; then its whole reply."""
    async with (
        server_process("server_drain.py", *server.split()) as process,
        connected(process.port) as runs,
        connected(process.port) as first,
        connected(process.port) as second,
    ):
        await runs.send(request(path, b"a", x_session_key=KEY))
        await process.reported("TurnStarted")
        for waits in (first, second):
            await waits.send(request(path, b"b", x_session_key=KEY))
            await process.reported("TurnQueued")
        process.terminate()
        for waits in (first, second):
            answer = await waits.answer()
            assert (answer.status, answer.json()["error"]["code"]) == (503, "draining")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        await process.reported("DrainStarted")
        await process.tell("go")
        answer = await runs.answer()
        assert (answer.status, answer.body) == (200, b"done" if path == "/turn" else b"onetwo")
        await ended_in_order(process)


@pytest.mark.parametrize("server", SERVERS)
async def test_sigterm_to_an_idle_server_ends_it(server: str) -> None:
    """The server's own handler is still called."""
    async with server_process("server_drain.py", *server.split()) as process:
        async with connected(process.port) as client:
            await process.tell("go")
            await client.send(request("/turn", b"a", x_session_key=KEY))
            assert (await client.answer()).status == 200
        process.terminate()
        await ended_in_order(process)
