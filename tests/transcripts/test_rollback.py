"""Going back to an earlier fence: what was appended behind it goes to the salvage, then out of the transcript."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from support.transcripts_faults import Faults, FaultyFiles, Killed
from support.transcripts_scenes import said, salvaged_in, user
from turnlane.errors import StaleTurn, TranscriptError, TranscriptTakeover, TranscriptUnavailable
from turnlane.hooks import Hooks, TranscriptAdopted
from turnlane.transcripts import JsonlTranscriptStore, Transcripts

Make = Callable[..., Transcripts]


async def test_what_is_behind_the_fence_is_salvaged_and_taken_away(make: Make) -> None:
    """That of others too; the turn goes on from there, and so does everybody else."""
    transcripts, others = make(), make()
    await transcripts.append("a", user("first"))
    async with transcripts.open("a") as transcript:
        fence = transcript.fence
        await transcript.append(user("one"), user("two"))
        async with transcript.released() as prompt:
            await others.append("a", user("of another"))
            prompt.stage(user("three"))
        assert await transcript.rollback(fence) == 4
        assert said(transcript.entries) == ["first"]
        assert transcript.fence.state == fence.state
        assert await transcript.rollback(fence) == 0
        await transcript.append(user("again"))
    assert salvaged_in(Path(transcripts.store.where)) == ["one", "two", "of another", "three"]
    async with others.open("a", at_open="raise") as transcript:
        assert said(transcript.entries) == ["first", "again"]


async def test_who_is_out_meanwhile_accepts_it(make: Make) -> None:
    """It is an owned write that is no append."""
    transcripts, others = make(), make()
    await transcripts.append("a", user("first"))
    async with transcripts.open("a") as transcript:
        fence = transcript.fence
        await transcript.append(user("one"))
        async with transcript.released() as prompt, others.open("a") as other:
            back = other.fence
            await other.append(user("two"))
            await other.rollback(back)
        assert said(prompt.changes) == ["first", "one"]  # all there is, for it was no append
        assert said(transcript.entries) == ["first", "one"]
        assert await transcript.rollback(fence) == 1
        assert said(transcript.entries) == ["first"]


async def test_inside_a_release_it_takes_the_lock_for_that_alone(make: Make) -> None:
    """As an append does."""
    transcripts = make()
    async with transcripts.open("a") as transcript:
        fence = transcript.fence
        await transcript.append(user("one"))
        async with transcript.released():
            assert await transcript.rollback(fence) == 1
            await make(lock_timeout=1).append("a", user("two"))
        assert said(transcript.entries) == ["two"]


async def test_an_unowned_edit_stops_it(transcripts: Transcripts) -> None:
    """Nothing is cut from what nobody has proven."""
    with pytest.raises(TranscriptTakeover):
        async with transcripts.open("a") as transcript:
            fence = transcript.fence
            await transcript.append(user("one"))
            path = Path(transcript.path)
            path.write_bytes(path.read_bytes().replace(b"one", b"ONE"))
            await transcript.rollback(fence)
    assert said(await transcripts.read("a")) == ["ONE"]


async def test_a_stale_turn_cuts_nothing(make: Make) -> None:
    """Its successor has written since."""
    transcripts, others = make(), make()
    with pytest.raises(StaleTurn):
        async with transcripts.open("a", token=5) as transcript:
            fence = transcript.fence
            await transcript.append(user("one"))
            async with transcript.released():
                await others.append("a", user("of the successor"), token=6)
                await transcript.rollback(fence)
    assert said(await transcripts.read("a")) == ["one", "of the successor"]


async def test_a_fence_of_before_a_compaction_is_refused(transcripts: Transcripts) -> None:
    """What it stands for is not there any more."""
    async with transcripts.open("a") as transcript:
        await transcript.append(user("one"), user("two"))
        fence = transcript.fence
        path = Path(transcript.path)
        transcript.owned_write(
            lambda: path.write_bytes(b'{"content":"sum"}\n'), validate=lambda _, text: "sum" in text, rewrite=True
        )
        await transcript.append(user("three"), user("four"), user("five"))
        with pytest.raises(TranscriptUnavailable, match="rewritten since"):
            await transcript.rollback(fence)
        assert said(transcript.entries) == ["sum", "three", "four", "five"]


async def test_a_fence_of_another_transcript_is_refused(transcripts: Transcripts) -> None:
    """It says nothing of this one."""
    async with transcripts.open("b") as other:
        await other.append(user("xxx"))
        foreign = other.fence
    async with transcripts.open("a") as transcript:
        await transcript.append(user("one"), user("two"))
        with pytest.raises(TranscriptUnavailable, match="rewritten since"):
            await transcript.rollback(foreign)
        assert said(transcript.entries) == ["one", "two"]


@pytest.mark.parametrize("kind", ["kill", "EIO", "ENOSPC", "EACCES"])
@pytest.mark.parametrize("sync", [False, True], ids=["process", "power"])
async def test_interrupted_at_each_call_nothing_is_lost(tmp_path: Path, kind: str, sync: bool) -> None:
    """What was cut off is in the salvage before it is; the next open goes on with either state."""
    for number in range(60):
        directory = tmp_path / str(number)
        await Transcripts(directory).append("a", user("first"))
        faults, done = Faults(number, kind), False
        store = JsonlTranscriptStore(directory, files=FaultyFiles(faults), sync=sync)
        appended = False
        with suppress(Killed, TranscriptError):
            async with Transcripts(store).open("a") as transcript:
                fence = transcript.fence
                await transcript.append(user("one"))
                appended = True
                await transcript.rollback(fence)
                done = True
        hooks, adopted = Hooks(), list[TranscriptAdopted]()
        hooks.on(TranscriptAdopted, adopted.append)
        async with Transcripts(directory, hooks=hooks).open("a", at_open="raise") as transcript:
            there = said(transcript.entries)
            await transcript.append(user("next"))
        assert there in (["first"], ["first", "one"])
        if appended and there == ["first"]:
            assert "one" in salvaged_in(directory)
        assert not (done and there != ["first"])
        assert adopted == []
        if not faults.happened:
            assert done
            return
    pytest.fail("more calls than that")
