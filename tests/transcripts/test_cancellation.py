"""Cancelled at every step: what was held is let go, what was let go is back, and no words are lost."""

# Blocks that raise are left in the middle.
# pyright: reportPossiblyUnboundVariable=false, reportPrivateUsage=false

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from support.transcripts_scenes import EDITS, open_below, path_of, said, salvaged_in, user
from transcripts.conftest import Make
from turnlane.errors import TranscriptBusy, TranscriptTakeover
from turnlane.transcripts import Transcript, Transcripts

MOST_STEPS = 400

Scene = Callable[[Transcripts, list[str]], Awaitable[None]]


async def plain(transcripts: Transcripts, acknowledged: list[str]) -> None:
    async with transcripts.open("a", token=2) as transcript:
        await transcript.append(user("question"))
        acknowledged.append("question")
        async with transcript.released() as prompt:
            prompt.stage(user("half"))
            await asyncio.sleep(0)
            await transcript.append(user("tool"))
            acknowledged.append("tool")
            prompt.stage(user("reply"))
        acknowledged += ["half", "reply"]


async def large(transcripts: Transcripts, acknowledged: list[str]) -> None:
    """So large that it is read and written in threads."""
    async with transcripts.open("a") as transcript:
        await transcript.append({"content": "question", "filler": "x" * 100_000})
        acknowledged.append("question")
        async with transcript.released() as prompt:
            prompt.stage({"content": "reply", "filler": "x" * 100_000})
        acknowledged.append("reply")


async def peer(transcripts: Transcripts, acknowledged: list[str]) -> None:
    await transcripts.append("a", user("peer"))
    acknowledged.append("peer")


SCENES: dict[str, Scene] = {"a turn": plain, "a large turn": large, "a peer": peer}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("contended", [False, True], ids=["alone", "contended"])
@pytest.mark.parametrize("name", SCENES)
async def test_cancelled_at_each_step(tmp_path: Path, name: str, contended: bool) -> None:
    """Another opener gets the lock at once, what was acknowledged is stored, what was staged is stored or salvaged."""
    for steps in range(MOST_STEPS):
        directory = tmp_path / str(steps)
        transcripts, acknowledged = Transcripts(directory), list[str]()
        other = asyncio.create_task(in_and_out(directory)) if contended else None
        task = asyncio.create_task(_run(SCENES[name], transcripts, acknowledged))
        for _ in range(steps * (20 if name == "a large turn" else 1)):  # threads take the loop many turns
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task} if other is None else {task, other})
        async with Transcripts(directory, lock_timeout=0).open("a") as transcript:
            stored = [text for text in said(transcript.entries) if text != "other"]
        salvaged = salvaged_in(directory)
        assert stored[: len(acknowledged)] == acknowledged
        assert len(set(stored)) == len(stored)
        if "tool" in acknowledged:
            assert {"half", "reply"} & {*stored, *salvaged} >= {"half"}
        assert not set(stored) & set(salvaged)
        assert transcripts._lines._lines == {}
        assert open_below(tmp_path) == []
        if not task.cancelled():
            assert task.exception() is None
            return
    pytest.fail(f"more than {MOST_STEPS} steps")


async def _run(scene: Scene, transcripts: Transcripts, acknowledged: list[str]) -> None:
    await scene(transcripts, acknowledged)


async def in_and_out(directory: Path) -> None:
    """Take the lock a few times, as another process would."""
    transcripts = Transcripts(directory)
    for _ in range(3):
        await transcripts.append("a", user("other"))
        await asyncio.sleep(0)


async def cut_short(transcript: Transcript, reason: BaseException) -> None:
    async with transcript.released() as prompt:
        prompt.stage(user("staged"))
        raise reason


@pytest.mark.parametrize("reason", [ValueError("the model failed"), asyncio.CancelledError(), GeneratorExit()])
async def test_an_exception_in_the_block_wins_and_what_was_staged_is_salvaged(
    transcripts: Transcripts, tmp_path: Path, reason: BaseException
) -> None:
    """The lock is back, the transcript usable, and the error says where the words are."""
    async with transcripts.open("a") as transcript:
        with pytest.raises(type(reason)) as caught:
            await cut_short(transcript, reason)
        assert caught.value is reason
        assert any("a.salvage.jsonl" in note for note in caught.value.__notes__)
        await transcript.append(user("went on"))
    assert salvaged_in(tmp_path / "transcripts") == ["staged"]
    assert said(await transcripts.read("a")) == ["went on"]


async def test_a_takeover_found_on_the_way_back_from_an_exception_is_told_later(make: Make) -> None:
    """As a note of the exception, and by the next use."""
    transcripts = make()
    async with transcripts.open("a") as transcript:
        with pytest.raises(ValueError, match="the model failed") as caught:
            async with transcript.released():
                EDITS["append"][0](path_of(transcript))
                raise ValueError("the model failed")
        assert any("was appended by somebody" in note for note in caught.value.__notes__)
        with pytest.raises(TranscriptTakeover):
            await transcript.append(user("refused"))


async def test_contention_on_the_way_back_is_no_takeover(make: Make, tmp_path: Path) -> None:
    """It is told as busy, what was staged is salvaged, and the transcript goes on when the lock is free."""
    transcripts = make(lock_timeout=0.02)
    gate, holding, released = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with make().open("a") as other:
            holding.set()
            await gate.wait()
            await other.append(user("peer"))
        released.set()

    async with transcripts.open("a") as transcript, asyncio.TaskGroup() as tasks:
        await transcript.append(user("first"))
        with pytest.raises(TranscriptBusy):
            async with transcript.released() as prompt:
                prompt.stage(user("reply"))
                tasks.create_task(hold())
                await holding.wait()
        gate.set()
        await released.wait()
        await transcript.append(user("went on"))
        async with transcript.released() as prompt:
            prompt.stage(user("again"))
        assert said(transcript.entries) == ["first", "peer", "went on", "again"]
    assert salvaged_in(tmp_path / "transcripts") == ["reply"]


async def test_cancelled_on_the_way_out_the_lock_is_back(make: Make) -> None:
    """The block never began: whoever goes on all the same has the lock, and may be released again."""
    async with make().open("a") as transcript:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with transcript.released():
                pytest.fail("it was let out")
        task.uncancel()
        with pytest.raises(TranscriptBusy):
            await make(lock_timeout=0).append("a", user("locked out"))
        async with transcript.released() as prompt:
            prompt.stage(user("reply"))
        assert said(transcript.entries) == ["reply"]


async def test_an_append_that_hears_of_a_failed_way_back_is_salvaged(make: Make, tmp_path: Path) -> None:
    """Its words were handed over like any others."""
    transcripts = make(lock_timeout=0.01)
    async with transcripts.open("a") as transcript:
        other = make().open("a")
        with pytest.raises(ValueError, match="the model failed"):
            async with transcript.released():
                await other.__aenter__()
                raise ValueError("the model failed")
        with pytest.raises(TranscriptBusy):
            await transcript.append(user("words"))
        await other.__aexit__(None, None, None)
        await transcript.append(user("went on"))
    assert salvaged_in(tmp_path / "transcripts") == ["words"]
