"""Several workers of one server: the session id of a key is the same in all of them. Lanes are each worker's own."""

import asyncio
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from support.net_http import connected, request
from support.server_process import server_process
from support.server_workers import Shared
from turnlane import Sessions

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.timeout(60),
    pytest.mark.asyncio(loop_factories=["asyncio"]),
    pytest.mark.skipif(sys.platform == "win32", reason="sockets are passed to workers by number"),
]

ROUNDS = 40
KEYS, REQUESTS = 5, 8


async def ask(port: int, key: str) -> dict[str, Any]:
    async with connected(port) as client:
        await client.send(request("/turn", b"x", x_session_key=key, connection="close"))
        answer = await client.answer()
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json()
    return found


async def test_a_key_has_one_session_id_in_all_workers(tmp_path: Path) -> None:
    """First requests of new keys at once, over new connections, until both workers have answered for one key."""
    answers: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    shared = Shared(sessions=f"sqlite:///{tmp_path}/sessions.db", workers=2)
    async with server_process("server_workers.py", shared.argument) as server:
        for number in range(ROUNDS):
            keys = [f"agent:{number}:{each % KEYS}" for each in range(KEYS * REQUESTS)]
            given = await asyncio.gather(*(ask(server.port, key) for key in keys))
            for key, answer in zip(keys, given, strict=True):
                answers[key].append(answer)
            if any(len({each["process"] for each in found}) == 2 for found in answers.values()):
                break
        server.terminate()
        await server.ended()
    assert any(len({each["process"] for each in found}) == 2 for found in answers.values()), "one worker took it all"
    for key, found in answers.items():
        assert len({each["session"] for each in found}) == 1, f"{key}: {found}"
        assert sum(each["new"] for each in found) == 1, f"{key}: {found}"
    async with Sessions(f"sqlite:///{tmp_path / 'sessions.db'}") as sessions:
        stored = {session.key: session.id for session in await sessions.list(limit=len(answers) + 1)}
    assert stored == {key: found[0]["session"] for key, found in answers.items()}
