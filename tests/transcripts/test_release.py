"""Prompt release: the lock goes while the model is called, and comes back behind the fence."""

# Blocks that raise are left in the middle.
# pyright: reportPossiblyUnboundVariable=false, reportPrivateUsage=false

import asyncio
import contextlib
import mmap
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from support.transcripts_scenes import EDITS, Edit, path_of, said, salvaged_in, user
from transcripts.conftest import Make
from turnlane.errors import TranscriptReentry, TranscriptTakeover, TranscriptUnavailable
from turnlane.transcripts import Transcript, Transcripts


async def test_the_lock_is_free_while_it_is_released_and_held_otherwise(make: Make) -> None:
    """Another opener gets in during the release only."""
    ours, theirs = make(), make(lock_timeout=0)
    async with ours.open("a") as transcript:
        with pytest.raises(TimeoutError):
            await theirs.append("a", user("too early"))
        async with transcript.released():
            await theirs.append("a", user("in between"))
        with pytest.raises(TimeoutError):
            await theirs.append("a", user("too late"))
    assert said(await ours.read("a")) == ["in between"]


async def test_what_was_staged_is_stored_in_order_on_the_way_back(transcripts: Transcripts) -> None:
    """Behind what others wrote meanwhile, and not before."""
    async with transcripts.open("a") as transcript:
        await transcript.append(user("question"))
        async with transcript.released() as prompt:
            prompt.stage(user("one"))
            prompt.stage(user("two"), user("three"))
            assert said(transcript.entries) == ["question"]
            assert prompt.changes == ()
        assert said(transcript.entries) == ["question", "one", "two", "three"]
    assert said(await transcripts.read("a")) == ["question", "one", "two", "three"]


@pytest.mark.parametrize("peers", [1, 3])
async def test_owned_appends_of_peers_are_accepted_and_told(make: Make, peers: int) -> None:
    """Also those that nobody was listening for, and then another."""
    async with make().open("a") as transcript:
        async with transcript.released() as prompt:
            for number in range(peers):
                await make().append("a", user(f"peer {number}"))
            prompt.stage(user("reply"))
        assert said(prompt.changes) == [f"peer {number}" for number in range(peers)]
        assert not prompt.rewritten
        assert said(transcript.entries) == [*said(prompt.changes), "reply"]


async def test_a_whole_turn_of_a_peer_during_the_release_is_accepted(make: Make) -> None:
    """It opens, releases, stores and closes while this one is out."""
    async with make().open("a", token=1) as transcript:
        async with transcript.released() as prompt, make().open("a") as other:
            await other.append(user("before"))
            async with other.released() as within:
                within.stage(user("after"))
        assert said(prompt.changes) == ["before", "after"]


async def test_appends_of_the_turn_itself_while_it_is_out_are_owned(make: Make) -> None:
    """Directly, and through the object; its fence moves, and they are no changes of others."""
    transcripts = make()
    async with transcripts.open("a") as transcript:
        async with transcript.released() as prompt:
            await transcript.append(user("tool call"))
            await make().append("a", user("peer"))
            await transcripts.append("a", user("delivery mirror"))
            await asyncio.create_task(transcripts.append("a", user("callback")))
            prompt.stage(user("reply"))
        assert said(prompt.changes) == ["peer"]
        assert said(transcript.entries) == ["tool call", "peer", "delivery mirror", "callback", "reply"]


@pytest.mark.parametrize("name", EDITS)
async def test_an_unowned_edit_during_the_release_is_refused(make: Make, tmp_path: Path, name: str) -> None:
    """Each kind is named; what was staged is salvaged; nothing is written; the next turn opens and goes on."""
    edit, kind = EDITS[name]
    transcripts = make()
    with pytest.raises(TranscriptTakeover) as refused:
        async with transcripts.open("a", turn="turn-1") as transcript:
            await transcript.append(user("first"), user("second"))
            async with transcript.released() as prompt:
                prompt.stage(user("reply"))
                edit(path_of(transcript))
                edited = path_of(transcript).read_bytes() if kind != "deleted" else None
    error = refused.value
    assert (error.kind, error.phase, error.turn) == (kind, "return", "turn-1")
    assert error.salvaged is not None
    assert str(error).startswith(error.path)
    assert salvaged_in(tmp_path / "transcripts") == ["reply"]
    path = Path(error.path)
    assert (path.read_bytes() if path.exists() else None) == edited
    if name not in ("add a byte order mark", "append half a line", "append and cut elsewhere"):
        async with transcripts.open("a") as transcript:
            await transcript.append(user("next"))
        assert said(await transcripts.read("a"))[-1] == "next"


@pytest.mark.parametrize(
    ("edit", "offset", "line"),
    [("append", 68, 3), ("edit in place", 0, 1), ("truncate", 34, 2), ("delete", None, None)],
)
async def test_the_error_says_where(transcripts: Transcripts, edit: str, offset: int, line: int) -> None:
    """The first byte that differs, and its line."""
    with pytest.raises(TranscriptTakeover) as refused:
        async with transcripts.open("a") as transcript:
            await transcript.append(user("first"), user("other"))
            async with transcript.released():
                EDITS[edit][0](path_of(transcript))
    assert (refused.value.offset, refused.value.line) == (offset, line)


def chmod(path: Path) -> None:
    path.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP)


def touch_it(path: Path) -> None:
    path.touch()


def hard_link(path: Path) -> None:
    os.link(path, path.with_suffix(".copy"))


def read_it(path: Path) -> None:
    path.read_bytes()


def write_the_same(path: Path) -> None:
    path.write_bytes(path.read_bytes())


@pytest.mark.parametrize("touch", [chmod, touch_it, hard_link, read_it, write_the_same])
async def test_a_change_that_leaves_the_content_is_no_takeover(transcripts: Transcripts, touch: Edit) -> None:
    """Metadata say that something happened; the content says that nothing did."""
    async with transcripts.open("a") as transcript:
        await transcript.append(user("first"))
        async with transcript.released() as prompt:
            touch(path_of(transcript))
            prompt.stage(user("reply"))
        assert said(transcript.entries) == ["first", "reply"]


async def test_an_unowned_edit_and_then_an_owned_append_of_a_peer_is_refused_to_both(
    make: Make, tmp_path: Path
) -> None:
    """The peer does not write; the one who is out finds the edit too."""
    transcripts = make()
    with pytest.raises(TranscriptTakeover) as refused:
        async with transcripts.open("a") as transcript:
            await transcript.append(user("first"))
            async with transcript.released() as prompt:
                prompt.stage(user("reply"))
                EDITS["append"][0](path_of(transcript))
                with pytest.raises(TranscriptTakeover) as peer:
                    await make().append("a", user("peer"))
    assert (peer.value.kind, peer.value.phase) == ("appended", "append")
    assert refused.value.kind == "appended"
    assert sorted(salvaged_in(tmp_path / "transcripts")) == ["peer", "reply"]
    assert said(await transcripts.read("a")) == ["first", "by hand"]


async def test_an_edit_that_a_later_open_adopted_is_still_a_takeover_for_who_is_out(make: Make) -> None:
    """Adopted for the one who opens, with a record; laundered for nobody."""
    with pytest.raises(TranscriptTakeover) as refused:
        async with make().open("a") as transcript:
            await transcript.append(user("first"))
            async with transcript.released():
                EDITS["edit in place"][0](path_of(transcript))
                async with make().open("a") as other:
                    await other.append(user("on top"))
    assert (refused.value.kind, refused.value.line) == ("edited", 1)


async def test_an_unowned_edit_while_another_holds_the_lock_is_refused_by_both(make: Make) -> None:
    """Holding the lock is not ownership: its close refuses, and so does the one who is out."""
    with pytest.raises(TranscriptTakeover) as ours:
        async with make().open("a") as transcript:
            await transcript.append(user("first"))
            async with transcript.released():
                with pytest.raises(TranscriptTakeover) as theirs:
                    async with make().open("a") as other:
                        EDITS["append"][0](path_of(other))
                assert theirs.value.phase == "close"
    assert ours.value.phase == "return"


async def test_the_lock_held_is_no_shield_for_an_edit_between_two_appends(transcripts: Transcripts) -> None:
    """The second append proves before it writes."""
    with pytest.raises(TranscriptTakeover) as refused:
        async with transcripts.open("a") as transcript:
            await transcript.append(user("first"))
            EDITS["append"][0](path_of(transcript))
            await transcript.append(user("second"))
    assert refused.value.phase == "append"
    assert said(await transcripts.read("a")) == ["first", "by hand"]


async def test_a_takeover_sticks(transcripts: Transcripts, tmp_path: Path) -> None:
    """What the turn tries afterwards is refused as the first was, its words are salvaged, the close is silent."""
    async with transcripts.open("a") as transcript:
        await transcript.append(user("first"))
        EDITS["append"][0](path_of(transcript))
        with pytest.raises(TranscriptTakeover) as first:
            async with transcript.released():
                pytest.fail("it was not let out")
        with pytest.raises(TranscriptTakeover) as second:
            await transcript.append(user("second"))
        with pytest.raises(TranscriptTakeover):
            async with transcript.released():
                pytest.fail("it was not let out")
    assert first.value.phase == "release"
    assert (first.value.salvaged, first.value.line) == (None, 2)
    assert (second.value.phase, second.value.line) == ("release", 2)
    assert second.value.salvaged == str(tmp_path / "transcripts" / "a.salvage.jsonl")
    assert "a.salvage.jsonl" in str(second.value)
    assert salvaged_in(tmp_path / "transcripts") == ["second"]
    await transcripts.append("b", user("others go on"))


async def test_releasing_what_is_released_is_refused(transcripts: Transcripts) -> None:
    """It would wait for itself."""
    async with transcripts.open("a") as transcript, transcript.released():
        with pytest.raises(TranscriptReentry):
            async with transcript.released():
                pytest.fail("it was let out twice")


async def test_a_store_through_an_old_mapping_is_refused(transcripts: Transcripts) -> None:
    """It leaves the fingerprint as it was; the content tells."""
    async with transcripts.open("a") as transcript:
        await transcript.append(user("first"))
        with path_of(transcript).open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
            at = mapping.find(b"first")
            mapping[at : at + 5] = b"first"  # the page is dirty and writable from here on
            await transcript.append(user("second"))
            with pytest.raises(TranscriptTakeover) as refused:
                async with transcript.released():
                    before = path_of(transcript).stat()
                    mapping[at : at + 5] = b"FIRST"
                    after = path_of(transcript).stat()
    assert (refused.value.kind, refused.value.line) == ("edited", 1)
    assert (before.st_size, before.st_ino) == (after.st_size, after.st_ino)


async def test_entries_are_what_is_stored(transcripts: Transcripts) -> None:
    """Not the objects that were given, which their owner may change."""
    entry = {"content": "given", "parts": (1, 2)}
    async with transcripts.open("a") as transcript:
        await transcript.append(entry)
        async with transcript.released() as prompt:
            prompt.stage(entry)
            entry["content"] = "changed"
        assert transcript.entries == ({"content": "given", "parts": [1, 2]},) * 2
        assert transcript.entries == await transcripts.read("a")


@pytest.mark.parametrize(
    "entry", [["a list"], "text", None, {"x": object()}, {"x": float("nan")}, {"x": "\ud800"}, {1: {2}}]
)
async def test_what_is_no_entry_is_refused_before_anything_is_written(transcripts: Transcripts, entry: Any) -> None:
    """By append, stage and the short append; those with it are not stored either."""
    async with transcripts.open("a") as transcript:
        with pytest.raises(ValueError, match="entry 1"):
            await transcript.append(user("fine"), entry)
        async with transcript.released() as prompt:
            with pytest.raises(ValueError, match="entry 0"):
                prompt.stage(entry)
    with pytest.raises(ValueError, match="entry 0"):
        await transcripts.append("a", entry)
    assert await transcripts.read("a") == ()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_forked_child_can_not_use_it_and_does_not_unlock_it(make: Make) -> None:
    """It is told so, and its end leaves the parent's lock alone."""
    async with make().open("a") as transcript:
        assert await asyncio.to_thread(status_of_a_child_that_uses, transcript) == 0
        with pytest.raises(TimeoutError):
            await make(lock_timeout=0).append("a", user("locked out"))
        await transcript.append(user("fine"))


def status_of_a_child_that_uses(transcript: Transcript) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            try:
                transcript._handle.append_nowait((b"{}",), transcript._author)
            except TranscriptUnavailable:
                status = 0
            transcript._handle.unlock_nowait()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
