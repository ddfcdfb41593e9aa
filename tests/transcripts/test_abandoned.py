"""An event loop that was closed while a transcript was open: nobody can close it any more, and nobody waits for it."""

import asyncio
import contextvars
import gc
import os
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from anyio import to_thread

from support.transcripts_scenes import said, user
from turnlane.errors import TranscriptBusy
from turnlane.transcripts import Transcript, Transcripts

Place = Callable[[Path], str]
PLACES: list[Place] = [str, lambda path: f"sqlite:///{path}/transcripts.db"]

pytestmark = pytest.mark.parametrize("place", PLACES, ids=["files", "sqlite"])


async def by_a_block(transcripts: Transcripts) -> AbstractAsyncContextManager[Transcript]:
    """Enter the block, and do not leave it."""
    block = transcripts.open("a")
    transcript = await block.__aenter__()
    await transcript.append(user("one"))
    return block


async def by_a_generator(transcripts: Transcripts) -> AsyncGenerator[str, None]:
    """Read the first item of a generator, and forget it."""

    async def answer() -> AsyncGenerator[str, None]:
        async with transcripts.open("a") as transcript:
            await transcript.append(user("one"))
            yield "item"

    items = answer()
    assert await anext(items) == "item"
    return items


def run_and_close(work: Coroutine[object, object, object]) -> list[object]:
    """What `asyncio.run` does, without ending the generators; return what is left in a list.

    A thread of anyio before 4.16 remembers the task whose call it made last, so it makes one more call for a stranger.
    """
    loop, left = asyncio.new_event_loop(), list[object]()

    async def run() -> None:
        left.append(await work)

    try:
        loop.run_until_complete(run())
        loop.run_until_complete(loop.create_task(to_thread.run_sync(int), context=contextvars.Context()))
    finally:
        loop.close()
    return left


def forget(left: list[object]) -> None:
    left.clear()
    gc.collect()


def collect(left: list[object]) -> list[str]:
    """Forget what is left, and return what it warned of."""
    with pytest.warns(ResourceWarning) as warned:
        forget(left)
    return [str(warning.message) for warning in warned]


def open_in(where: str) -> tuple[str, ...]:
    """What an open transcript keeps open."""
    return ("a.lock",) if where.startswith("sqlite:") else ("a.jsonl", "a.jsonl.journal")


async def store(place: str) -> list[str]:
    """Append as somebody else, who waits for nobody."""
    async with Transcripts(place, lock_timeout=0) as others:
        await others.append("a", user("two"))
        return said(await others.read("a"))


@pytest.mark.parametrize("leave", [by_a_block, by_a_generator])
def test_what_nobody_can_close_is_let_go(
    tmp_path: Path, place: Place, leave: Callable[[Transcripts], Coroutine[object, object, object]]
) -> None:
    """The lock is kept for as long as anybody can use what has it, and not longer; a warning names the file."""
    where, descriptors = place(tmp_path), len(os.listdir("/proc/self/fd"))
    transcripts = Transcripts(where)
    left = run_and_close(leave(transcripts))
    gc.collect()
    with pytest.raises(TranscriptBusy):
        asyncio.run(store(where))
    assert {text.rpartition("/")[2] for text in collect(left)} == {
        f"{name} was never closed" for name in open_in(where)
    }
    assert asyncio.run(store(where)) == ["one", "two"]
    asyncio.run(transcripts.aclose())
    del transcripts
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_a_forked_child_that_collects_it_lets_nothing_go(tmp_path: Path, place: Place) -> None:
    """The lock is that of the parent, which has it open."""
    where = place(tmp_path)
    transcripts = Transcripts(where)
    left = run_and_close(by_a_block(transcripts))
    if (child := os.fork()) == 0:
        forget(left)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(TranscriptBusy):
        asyncio.run(store(where))
    collect(left)
    assert asyncio.run(store(where)) == ["one", "two"]
    asyncio.run(transcripts.aclose())
