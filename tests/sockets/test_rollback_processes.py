"""A server is killed in the middle of a turn: the next message with `Rollback` finds nothing of that turn."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from support.net_clients import openai_client
from support.server_process import server_process
from support.transcripts_scenes import said, salvaged_in, user
from turnlane import Transcripts

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.timeout(60),
    pytest.mark.asyncio(loop_factories=["asyncio"]),
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL"),
]


async def say(client: AsyncOpenAI, text: str, *, stream: bool) -> str:
    """Say something, and return the whole reply."""
    create: Any = client.chat.completions.create  # its types tell streams at checking time
    asked: Any = [{"role": "user", "content": text}]
    headers = {"x-session-key": "agent:main:alice", "x-name": text}
    answer = await create(model="m", messages=asked, stream=stream, extra_headers=headers)
    if stream:
        return "".join([chunk.choices[0].delta.content or "" async for chunk in answer])
    return str(answer.choices[0].message.content)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("kind", ["files", "database"])
async def test_what_a_killed_server_left_is_taken_out_by_the_next(tmp_path: Path, kind: str, stream: bool) -> None:
    """Kill -9: what turns before it have ended with stays, as does what others stored; its words are in the salvage."""
    url = str(tmp_path / "kept") if kind == "files" else f"sqlite:///{tmp_path}/kept.db"
    async with server_process("server_rollback.py", str(tmp_path), url, "one") as server:
        client = openai_client(server.port)
        assert await say(client, "zero", stream=stream) == "heard zero"
        one = asyncio.create_task(say(client, "one", stream=stream))
        while (await server.reported("reached"))["word"] != "one":
            pass
        await server.kill()
        with pytest.raises((openai.OpenAIError, httpx.HTTPError)):
            await one
        await client.close()
    async with Transcripts(url) as others:
        [session] = await others.list()
        await others.append(session, user("peer"))
        assert said(await others.read(session)) == ["zero", "heard zero", "one", "peer"]
        async with server_process("server_rollback.py", str(tmp_path), url, "") as server:
            client = openai_client(server.port)
            assert await say(client, "two", stream=stream) == "heard two"
            assert await say(client, "three", stream=stream) == "heard three"
            await client.close()
        left = ["zero", "heard zero", "peer", "two", "heard two", "three", "heard three"]
        assert said(await others.read(session)) == left
    if kind == "files":
        assert salvaged_in(tmp_path / "kept") == ["one"]
