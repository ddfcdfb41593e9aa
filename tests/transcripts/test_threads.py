"""Threads that wait for transcripts, as `def` endpoints do, and the threads that transcripts need themselves."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from anyio import to_thread

from support.transcripts_scenes import said, user
from turnlane.transcripts import Transcripts


async def short(transcripts: Transcripts, session_id: str) -> None:
    await transcripts.append(session_id, user("words"))


async def turn(transcripts: Transcripts, session_id: str) -> None:
    async with transcripts.open(session_id) as transcript, transcript.released() as prompt:
        prompt.stage(user("words"))


@pytest.mark.parametrize("use", [short, turn])
@pytest.mark.parametrize("kind", ["files that are synced", "database"])
async def test_every_thread_of_a_server_may_wait_for_one(
    tmp_path: Path, kind: str, use: Callable[[Transcripts, str], Awaitable[None]]
) -> None:
    """What they wait for needs none of them."""
    place = tmp_path / "files" if kind != "database" else f"sqlite:///{tmp_path / 'file.db'}"
    threads = int(to_thread.current_default_thread_limiter().total_tokens)
    loop = asyncio.get_running_loop()
    in_threads = 0
    all_of_them = asyncio.Event()

    async def use_it(transcripts: Transcripts, session_id: str) -> None:
        nonlocal in_threads
        in_threads += 1
        if in_threads == threads:
            all_of_them.set()
        await all_of_them.wait()
        await use(transcripts, session_id)

    def endpoint(transcripts: Transcripts, session_id: str) -> None:
        asyncio.run_coroutine_threadsafe(use_it(transcripts, session_id), loop).result(10)

    async with Transcripts(place, durability="power") as transcripts:
        jobs = (partial(endpoint, transcripts, f"s{number}") for number in range(threads + 5))
        await asyncio.gather(*(to_thread.run_sync(job) for job in jobs))
        for number in range(threads + 5):
            assert said(await transcripts.read(f"s{number}")) == ["words"]
