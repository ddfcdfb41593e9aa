"""Deleting a transcript: a tombstone, a new beginning, and nothing of it left once it is swept."""

import asyncio
import contextvars
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from support.transcripts_faults import Faults, FaultyFiles, Killed
from support.transcripts_scenes import said, salvaged_in, user
from turnlane.errors import StaleTurn, TranscriptBusy, TranscriptReentry, TranscriptTakeover, TranscriptUnavailable
from turnlane.hooks import Hooks, TranscriptAdopted
from turnlane.testing import ManualClock
from turnlane.transcripts import JsonlTranscriptStore, Transcripts
from turnlane.transcripts.inspection import inspect, transcripts_at

Make = Callable[..., Transcripts]
DAY = 86400.0


def tombstones(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.tombstone.jsonl"))


async def test_a_deleted_transcript_is_gone_and_its_tombstone_holds_it(transcripts: Transcripts) -> None:
    """It is neither read nor listed; the id begins anew, with the highest token it had."""
    directory = Path(transcripts.store.where)
    await transcripts.append("a", user("one"), token=7)
    await transcripts.append("b", user("kept"))
    content = (directory / "a.jsonl").read_bytes()
    await transcripts.delete("a")
    assert await transcripts.read("a") == ()
    assert await transcripts.list() == ("b",)
    [tombstone] = tombstones(directory)
    assert tombstone.read_bytes() == content
    assert b"one" not in (directory / "a.jsonl.journal").read_bytes()
    assert [str(path) for path in transcripts_at(directory)] == [str(directory / f"{name}.jsonl") for name in "ab"]
    assert inspect(directory / "a.jsonl").is_well
    with pytest.raises(StaleTurn):
        await transcripts.append("a", user("of a zombie"), token=6)
    async with transcripts.open("a", token=8, at_open="raise") as transcript:
        assert transcript.entries == ()
        await transcript.append(user("again"))
    assert said(await transcripts.read("a")) == ["again"]
    assert await transcripts.list() == ("a", "b")


async def test_where_none_is_nothing_is_made(make: Make) -> None:
    """Neither a journal nor a row that would stay for ever; a file that nobody owns yet is deleted."""
    transcripts = make()
    await transcripts.delete("a", token=7)
    assert not await transcripts.store.exists("a")
    assert await transcripts.list() == ()
    directory = Path(transcripts.store.where)
    if directory.is_dir():
        assert list(directory.iterdir()) == []
        (directory / "b.jsonl").write_text('{"content":"by hand"}\n')
        await transcripts.delete("b")
        assert [path.name for path in tombstones(directory)] != []


@pytest.mark.parametrize("by", ["another object", "the same object"])
async def test_a_turn_that_is_out_learns_it_and_its_words_are_salvaged(make: Make, by: str) -> None:
    """It does not bring the conversation back to life."""
    transcripts = make()
    deleter = transcripts if by == "the same object" else make()
    await transcripts.append("a", user("one"))
    with pytest.raises(TranscriptUnavailable, match="it was deleted"):
        async with transcripts.open("a") as transcript, transcript.released() as prompt:
            await asyncio.create_task(deleter.delete("a"), context=contextvars.Context())
            with pytest.raises(TranscriptUnavailable, match="it was deleted"):
                await transcript.append(user("mirrored"))
            prompt.stage(user("reply"))
    directory = Path(transcripts.store.where)
    assert salvaged_in(directory) == ["mirrored", "reply"]
    assert not (directory / "a.jsonl").exists()
    await transcripts.append("a", user("new"))
    assert said(await transcripts.read("a")) == ["new"]


async def test_one_that_began_anew_meanwhile_is_another_one(make: Make) -> None:
    """A turn that was out does not go on in the new conversation of the same id."""
    transcripts, others = make(), make()
    with pytest.raises(TranscriptUnavailable, match="it was deleted"):
        async with transcripts.open("a") as transcript, transcript.released() as prompt:
            await others.delete("a")
            await others.append("a", user("new"))
            prompt.stage(user("old reply"))
    assert said(await transcripts.read("a")) == ["new"]


async def test_who_holds_it_is_not_disturbed(make: Make) -> None:
    """Deleting waits for the lock, and says that it was not to be had."""
    async with make().open("a") as transcript:
        with pytest.raises(TranscriptBusy):
            await make(lock_timeout=0.02).delete("a")
        await transcript.append(user("one"))
    assert said(await make().read("a")) == ["one"]


async def test_not_from_inside(transcripts: Transcripts) -> None:
    """A call chain that has it open would wait for itself."""
    async with transcripts.open("a"):
        with pytest.raises(TranscriptReentry, match="deleting it"):
            await transcripts.delete("a")


async def test_a_stale_turn_deletes_nothing(transcripts: Transcripts) -> None:
    """As it writes nothing."""
    await transcripts.append("a", user("one"), token=7)
    with pytest.raises(StaleTurn):
        await transcripts.delete("a", token=6)
    assert said(await transcripts.read("a")) == ["one"]


@pytest.mark.parametrize("damage", ["edited", "corrupt", "missing", "never there"])
async def test_whatever_it_holds_it_can_be_deleted(transcripts: Transcripts, damage: str) -> None:
    """Also what no open could read; a later open begins anew without a word of it."""
    path = Path(transcripts.store.where) / "a.jsonl"
    if damage != "never there":
        await transcripts.append("a", user("one"))
    if damage == "edited":
        path.write_bytes(b'{"content":"by hand"}\n')
    elif damage == "corrupt":
        path.write_bytes(b"{{{\n")
    elif damage == "missing":
        path.unlink()
    await transcripts.delete("a")
    assert not path.exists()
    async with transcripts.open("a", at_open="raise") as transcript:
        assert transcript.entries == ()


async def test_a_file_that_appears_in_its_place_is_an_unowned_edit(make: Make) -> None:
    """Somebody has put it there: flagged and adopted, or refused."""
    hooks, adopted = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, adopted.append)
    transcripts = make(hooks=hooks)
    await transcripts.append("a", user("one"))
    await transcripts.delete("a")
    (Path(transcripts.store.where) / "a.jsonl").write_bytes(b'{"content":"by hand"}\n')
    with pytest.raises(TranscriptTakeover):
        async with transcripts.open("a", at_open="raise"):
            pass
    async with transcripts.open("a") as transcript:
        assert said(transcript.entries) == ["by hand"]
    assert [event.kind for event in adopted] == ["unknown"]


async def test_tombstones_and_their_salvage_are_swept_when_their_time_is_over(make: Make) -> None:
    """Those of others stay, and so does what a transcript that lives has in its salvage."""
    clock = ManualClock()
    transcripts = make(retain_days=2, clock=clock)
    directory = Path(transcripts.store.where)
    for name in ("a", "b"):
        await transcripts.append(name, user("one"), token=7)
        with pytest.raises(StaleTurn):
            await transcripts.append(name, user("salvaged"), token=6)
    await transcripts.delete("a")
    clock.advance(1 * DAY)
    await transcripts.append("a", user("again"))
    await transcripts.delete("a")
    assert len(tombstones(directory)) == 2
    assert await transcripts.sweep() == 0
    clock.advance(1.5 * DAY)
    assert await transcripts.sweep() == 1
    clock.advance(10 * DAY)
    for path in directory.glob("*.salvage.jsonl"):  # its time is the machine's, not that of the test's clock
        os.utime(path, (clock.wall() - 9 * DAY, clock.wall() - 9 * DAY))
    assert await transcripts.sweep() == 1
    assert tombstones(directory) == []
    assert [path.name for path in directory.glob("*.salvage.jsonl")] == ["b.salvage.jsonl"]
    assert await make(retain_days=0).sweep() == 0


async def test_deleting_sweeps_once_an_hour(make: Make) -> None:
    """Nobody has to think of it, and nobody pays for it each time."""
    clock = ManualClock()
    transcripts = make(retain_days=0, clock=clock)
    directory = Path(transcripts.store.where)

    async def left_after(name: str) -> int:
        await transcripts.append(name, user("one"))
        await transcripts.delete(name)
        return len(tombstones(directory))

    assert await left_after("a") == 1  # it is not older than itself
    clock.advance(60)
    assert await left_after("b") == 2
    clock.advance(3600)
    assert await left_after("c") == 1


@pytest.mark.parametrize("days", [-1, "3", float("nan"), True])
def test_the_days_are_a_number(make: Make, days: object) -> None:
    """Named in the error."""
    with pytest.raises(ValueError, match="retain_days must be a number of days"):
        make(retain_days=days)


@pytest.mark.parametrize("kind", ["kill", "EIO", "ENOSPC", "EACCES"])
@pytest.mark.parametrize("sync", [False, True], ids=["process", "power"])
async def test_interrupted_at_each_call_it_is_there_whole_or_gone(tmp_path: Path, kind: str, sync: bool) -> None:
    """Never half, never twice; and what was acknowledged as deleted stays deleted."""
    for number in range(30):
        directory = tmp_path / str(number)
        await Transcripts(directory).append("a", user("one"))
        faults, acknowledged = Faults(number, kind), False
        files = FaultyFiles(faults)
        with suppress(Killed, TranscriptUnavailable):
            await Transcripts(JsonlTranscriptStore(directory, files=files, sync=sync)).delete("a")
            acknowledged = True
        hooks, adopted = Hooks(), list[TranscriptAdopted]()
        hooks.on(TranscriptAdopted, adopted.append)
        transcripts = Transcripts(directory, hooks=hooks)
        async with transcripts.open("a", at_open="raise") as transcript:
            there = said(transcript.entries)
            await transcript.append(user("next"))
        assert there == ([] if tombstones(directory) else ["one"])
        assert not (acknowledged and there)
        assert adopted == []
        if not faults.happened:
            assert acknowledged
            return
    pytest.fail("more calls than that")
