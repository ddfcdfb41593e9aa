"""`on_unowned_edit="cancel"`: the turn that is out is called back, and the rest of its model call is saved."""

# Blocks that raise are left in the middle.
# pyright: reportPossiblyUnboundVariable=false

import asyncio
import contextlib
from pathlib import Path

import pytest

from support.transcripts_scenes import EDITS, append, edit_in_place, path_of, said, salvaged_in, user
from support.transcripts_watched import deaf, found_by
from transcripts.conftest import Make
from turnlane.errors import TranscriptBusy, TranscriptTakeover
from turnlane.hooks import TakeoverFound, UnownedEditFound
from turnlane.transcripts import Transcript, TranscriptMonitor, Transcripts
from turnlane.transcripts.takeover import TakeoverDecision


async def endless() -> None:
    """A model that answers when all else is done."""
    async with asyncio.timeout(15):
        await asyncio.Event().wait()


@pytest.mark.parametrize("name", ["append", "edit in place", "truncate", "replace by rename", "delete"])
async def test_the_turn_that_is_out_is_stopped_at_once(transcripts: Transcripts, tmp_path: Path, name: str) -> None:
    """What it had staged is salvaged; it is a takeover, told once; the next turn goes on."""
    edit, kind = EDITS[name]
    told: list[TakeoverFound] = []
    transcripts.hooks.on(TakeoverFound, told.append)
    async with TranscriptMonitor(transcripts, on_unowned_edit="cancel"):
        with pytest.raises(TranscriptTakeover) as stopped:
            async with transcripts.open("a", turn="turn-1") as transcript:
                await transcript.append(user("first"), user("second"))
                async with transcript.released() as prompt:
                    prompt.stage(user("half a reply"))
                    edit(path_of(transcript))
                    await endless()
        assert (stopped.value.kind, stopped.value.phase, stopped.value.turn) == (kind, "released", "turn-1")
        assert stopped.value.salvaged is not None
        assert salvaged_in(tmp_path / "transcripts") == ["half a reply"]
        assert [event.phase for event in told] == ["released"]
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        async with transcripts.open("a") as transcript:
            await transcript.append(user("next"))
    assert said(await transcripts.read("a"))[-1] == "next"


async def test_flag_only_tells(transcripts: Transcripts) -> None:
    """Who is out, too; the turn finds it on its way back."""
    async with found_by(transcripts) as found:
        with pytest.raises(TranscriptTakeover) as stopped:
            async with transcripts.open("a", turn="turn-1") as transcript:
                await transcript.append(user("first"))
                async with transcript.released():
                    append(path_of(transcript))
                    event = await found.next()
                    task = asyncio.current_task()
                    assert task is not None
                    assert task.cancelling() == 0
        assert event.turns == ("turn-1",)
        assert stopped.value.phase == "return"


async def test_only_turns_that_are_out_on_that_transcript_are_stopped(make: Make) -> None:
    """Two turns of two objects and of one session, one of another, and one that holds the lock again."""
    transcripts, ready, edited = make(), asyncio.Barrier(4), asyncio.Event()

    async def out(session_id: str, turn: str) -> str:
        async with transcripts.open(session_id, turn=turn) as transcript, transcript.released():
            await ready.wait()
            if session_id == "a":
                await endless()
            await edited.wait()
        return "went on"

    async with found_by(transcripts, on_unowned_edit="cancel") as found:
        await transcripts.append("a", user("first"))
        tasks = [asyncio.create_task(out(*each)) for each in (("a", "one"), ("a", "two"), ("b", "three"))]
        await ready.wait()
        append(Path(transcripts.store.where, "a.jsonl"))
        event = await found.next()
        edited.set()
        one, two, three = await asyncio.gather(*tasks, return_exceptions=True)
        assert event.turns == ("one", "two")
        assert isinstance(one, TranscriptTakeover)
        assert isinstance(two, TranscriptTakeover)
        assert three == "went on"


async def test_an_edit_that_is_undone_meanwhile_is_a_takeover_all_the_same(
    transcripts: Transcripts, tmp_path: Path
) -> None:
    """The reply was cut off in the middle: it is salvaged, and not stored as if it were whole."""
    async with TranscriptMonitor(transcripts, on_unowned_edit="cancel"):
        with pytest.raises(TranscriptTakeover) as stopped:
            async with transcripts.open("a") as transcript:
                await transcript.append(user("first"))
                content = path_of(transcript).read_bytes()
                async with transcript.released() as prompt:
                    prompt.stage(user("half"))
                    append(path_of(transcript))
                    try:
                        await endless()
                    finally:
                        path_of(transcript).write_bytes(content)
    assert (stopped.value.kind, stopped.value.offset) == ("appended", len(content))
    assert salvaged_in(tmp_path / "transcripts") == ["half"]
    assert said(await transcripts.read("a")) == ["first"]


@pytest.mark.parametrize("before", [True, False])
async def test_a_real_cancellation_is_kept(transcripts: Transcripts, tmp_path: Path, before: bool) -> None:
    """One that was asked for before the monitor's, or after it: it goes out as one, and what was staged is salvaged."""
    out = asyncio.Event()

    async def turn() -> None:
        async with transcripts.open("a") as transcript:
            await transcript.append(user("first"))
            async with transcript.released() as prompt:
                prompt.stage(user("half"))
                out.set()
                await endless()

    async with found_by(transcripts, on_unowned_edit="cancel", watcher=deaf) as found:
        task: asyncio.Task[object] = asyncio.create_task(turn())
        await out.wait()
        (outing,) = transcripts.outings.of("a")
        append(tmp_path / "transcripts" / "a.jsonl")

        def cancel(_: UnownedEditFound) -> None:
            task.cancel()

        transcripts.hooks.on(UnownedEditFound, cancel)  # told after the turn was called back
        if before:
            task.cancel()
            assert task.cancelling() == 1
        else:
            await found.monitor.scan()
        await asyncio.wait({task})
        assert task.cancelled()
        assert outing.end(None) is None
        if before:
            await found.monitor.scan()
        assert (await found.next()).kind == "appended"
    assert salvaged_in(tmp_path / "transcripts") == ["half"]


async def test_an_exception_of_the_block_wins(transcripts: Transcripts, tmp_path: Path) -> None:
    """Also one that the cancellation was turned into; the task is not left cancelled."""
    task = asyncio.current_task()
    assert task is not None
    async with TranscriptMonitor(transcripts, on_unowned_edit="cancel"):
        with pytest.raises(KeyError) as wins:
            async with transcripts.open("a") as transcript:
                await transcript.append(user("first"))
                async with transcript.released() as prompt:
                    prompt.stage(user("half"))
                    append(path_of(transcript))
                    try:
                        await endless()
                    except asyncio.CancelledError:
                        raise KeyError("of the model's client") from None
    assert task.cancelling() == 0
    assert any("the way back" in note for note in wins.value.__notes__)
    assert salvaged_in(tmp_path / "transcripts") == ["half"]


async def test_a_block_that_goes_on_all_the_same_meets_the_fence(transcripts: Transcripts) -> None:
    """It has swallowed the cancellation; the task is not left cancelled."""
    task = asyncio.current_task()
    assert task is not None
    async with TranscriptMonitor(transcripts, on_unowned_edit="cancel"):
        with pytest.raises(TranscriptTakeover) as stopped:
            async with transcripts.open("a") as transcript:
                await transcript.append(user("first"))
                async with transcript.released():
                    append(path_of(transcript))
                    with contextlib.suppress(asyncio.CancelledError):
                        await endless()
    assert stopped.value.phase == "return"
    assert task.cancelling() == 0


@pytest.mark.parametrize("kind", ["accept", "callable"])
async def test_a_turn_that_may_accept_it_is_only_told(transcripts: Transcripts, kind: str) -> None:
    """Its reply would be lost for nothing."""

    def decide(_: TranscriptTakeover) -> TakeoverDecision:
        return "accept"

    async with found_by(transcripts, on_unowned_edit="cancel") as found:
        async with transcripts.open("a", on_takeover="accept" if kind == "accept" else decide) as transcript:
            await transcript.append(user("first"))
            async with transcript.released() as prompt:
                edit_in_place(path_of(transcript))
                assert (await found.until("edited")).turns == ("",)
                prompt.stage(user("reply"))
        assert said(transcript.entries) == ["FIRST", "reply"]


async def test_the_lock_that_is_not_to_be_had_does_not_hide_the_takeover(make: Make) -> None:
    """It is a note; later appends are refused all the same."""
    transcripts = make(lock_timeout=0)
    async with TranscriptMonitor(transcripts, on_unowned_edit="cancel"):
        transcript: Transcript | None = None
        async with make().open("b"):  # another one, to show that only its own lock matters
            with pytest.raises(TranscriptTakeover) as stopped:
                async with transcripts.open("a") as transcript:
                    await transcript.append(user("first"))
                    async with transcript.released():
                        handle = await make().store.attach("a")
                        await handle.lock(0)
                        append(path_of(transcript))
                        await endless()
        await handle.aclose()
        assert any("was locked by another" in note for note in stopped.value.__notes__)
        assert not isinstance(stopped.value, TranscriptBusy)


async def test_children_of_the_block_are_cancelled_with_it(transcripts: Transcripts) -> None:
    """A model call in a task group of its own is saved too."""
    cancelled: list[str] = []

    async def model() -> None:
        try:
            await endless()
        except asyncio.CancelledError:
            cancelled.append("model")
            raise

    async with TranscriptMonitor(transcripts, on_unowned_edit="cancel"):
        with pytest.raises(TranscriptTakeover):
            async with transcripts.open("a") as transcript:
                await transcript.append(user("first"))
                async with transcript.released(), asyncio.TaskGroup() as group:
                    group.create_task(model())
                    await asyncio.sleep(0)
                    append(path_of(transcript))
    assert cancelled == ["model"]


async def test_nobody_is_kept_who_is_back(transcripts: Transcripts) -> None:
    """However the release ended."""
    async with transcripts.open("a", turn="one") as transcript:
        async with transcript.released():
            (outing,) = transcripts.outings.of("a")
            assert "turn=one" in repr(outing)
        with pytest.raises(KeyError):
            async with transcript.released():
                raise KeyError
    assert transcripts.outings.of("a") == ()
    assert repr(transcripts.outings) == "<Outings sessions=0>"
