"""What could cost words, or own what nobody wrote, found by looking for it: each with the words where they belong."""

# Blocks that raise are left in the middle.
# pyright: reportPossiblyUnboundVariable=false

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from support.transcripts_faults import Faults, FaultyFiles
from support.transcripts_scenes import line, said, salvaged_in, user
from turnlane.errors import (
    StaleTurn,
    TranscriptBusy,
    TranscriptCorrupt,
    TranscriptReentry,
    TranscriptTakeover,
    TranscriptUnavailable,
)
from turnlane.transcripts import JsonlTranscriptStore, Transcripts
from turnlane.transcripts.inspection import inspect, transcripts_at

Make = Callable[..., Transcripts]


@pytest.mark.parametrize("peers", [0, 2, 5])
@pytest.mark.parametrize("verify", ["bounded", "always"])
async def test_an_older_copy_of_file_and_journal_is_no_progress(
    make: Make, tmp_path: Path, peers: int, verify: str
) -> None:
    """A backup put in place while a turn is out, and owned writes behind it: not what the turn has proven."""
    transcripts, others = make(verify=verify), make()
    directory, backup = tmp_path / "transcripts", tmp_path / "backup"
    await transcripts.append("a", user("1"))
    shutil.copytree(directory, backup)
    with pytest.raises(TranscriptTakeover):
        async with transcripts.open("a") as transcript:
            for number in range(2, 5):
                await transcript.append(user(str(number)))
            async with transcript.released() as prompt:
                for name in ("a.jsonl", "a.jsonl.journal"):
                    (directory / name).write_bytes((backup / name).read_bytes())
                for number in range(peers):
                    await others.append("a", user(f"peer {number}"))
                prompt.stage(user("reply"))
    assert salvaged_in(directory) == ["reply"]
    assert said(await transcripts.read("a")) == ["1", *(f"peer {number}" for number in range(peers))]


@pytest.mark.parametrize("trouble", ["corrupt", "stale"])
async def test_an_edit_that_is_accepted_but_can_not_be_adopted(make: Make, tmp_path: Path, trouble: str) -> None:
    """The staged words are salvaged all the same."""
    transcripts, others = make(on_takeover="accept"), make()
    with pytest.raises(TranscriptCorrupt if trouble == "corrupt" else StaleTurn):
        async with transcripts.open("a", token=5) as transcript, transcript.released() as prompt:
            prompt.stage(user("reply"))
            if trouble == "stale":
                await others.append("a", user("of the successor"), token=6)
            by_hand = b"{{{\n" if trouble == "corrupt" else line(user("by hand"))
            path = Path(transcript.path)
            path.write_bytes(path.read_bytes() + by_hand)
    assert salvaged_in(tmp_path / "transcripts") == ["reply"]


@pytest.mark.parametrize("token", [-1, 2**63, 1.5, "7", True])
async def test_a_token_that_is_none_is_refused_before_the_model_is_called(transcripts: Transcripts, token: Any) -> None:
    """At the first call, not when words are to be stored."""
    with pytest.raises(ValueError, match="a token is a whole number"):
        async with transcripts.open("a", token=token):
            pytest.fail("it opened")
    with pytest.raises(ValueError, match="a token is a whole number"):
        await transcripts.append("a", user("one"), token=token)


@pytest.mark.parametrize("turn", ["x" * 81, "\ud800", None, 7])
async def test_a_turn_that_has_no_name_is_refused_too(transcripts: Transcripts, turn: Any) -> None:
    """Text that the journal has room for."""
    with pytest.raises(ValueError, match="a turn's id is text"):
        async with transcripts.open("a", turn=turn):
            pytest.fail("it opened")


@pytest.mark.parametrize("asked", ["nothing", "append", "gather"])
async def test_a_policy_that_waits_for_the_transcript_is_ended(make: Make, tmp_path: Path, asked: str) -> None:
    """One that never answers after `lock_timeout`, one that asks the transcript itself at once."""

    async def policy(error: TranscriptTakeover) -> Any:
        if asked == "append":
            await transcripts.append("a", user("note"))
        elif asked == "gather":
            await asyncio.gather(transcripts.append("a", user("note")))
        await asyncio.Event().wait()

    transcripts = make(on_takeover=policy, lock_timeout=0.05)
    with pytest.raises(TranscriptTakeover if asked == "nothing" else TranscriptReentry):
        async with asyncio.timeout(5), transcripts.open("a") as transcript, transcript.released() as prompt:
            prompt.stage(user("reply"))
            Path(transcript.path).write_bytes(b'{"content":"by hand"}\n')
    kept = salvaged_in(tmp_path / "transcripts")
    assert kept == (["reply"] if asked == "nothing" else ["note", "reply"])


@pytest.mark.parametrize("says", ["it raises", "neither"])
async def test_a_policy_that_does_not_decide_hides_nothing(make: Make, tmp_path: Path, says: str) -> None:
    """What it raises is told, with the takeover and where the words are; the transcript is lost to this turn."""

    def policy(error: TranscriptTakeover) -> Any:
        return says if says == "neither" else 1 // 0

    transcripts = make(on_takeover=policy)
    with pytest.raises(ValueError if says == "neither" else ZeroDivisionError) as raised:
        async with transcripts.open("a") as transcript, transcript.released() as prompt:
            prompt.stage(user("reply"))
            Path(transcript.path).write_bytes(b'{"content":"by hand"}\n')
    assert salvaged_in(tmp_path / "transcripts") == ["reply"]
    (note,) = raised.value.__notes__
    assert "found at return" in note
    assert "what was to be stored is in " in note


@pytest.mark.parametrize("calls", [1, 2])
async def test_an_append_that_fails_at_the_journal_is_not_made_twice(tmp_path: Path, calls: int) -> None:
    """It is told as failed, or stored; the words are in the transcript at most once."""
    await Transcripts(tmp_path).append("a", user("zero"))
    for number in range(30):
        faults = Faults(10**6, "EIO")
        async with Transcripts(JsonlTranscriptStore(tmp_path, files=FaultyFiles(faults))).open("a") as transcript:
            faults.calls, faults.at = 0, number
            faults.lasting = calls > 1
            text, told = f"words {number}", False
            try:
                await transcript.append(user(text))
            except TranscriptUnavailable:
                told = True
            finally:
                happened, faults.lasting, faults.at = faults.happened, False, 10**6
        texts = said(await Transcripts(tmp_path).read("a"))
        assert texts.count(text) <= 1
        assert texts.count(text) == 1 or told
        if not happened:
            return
    pytest.fail("more calls than that")


async def test_an_edit_in_the_moment_of_an_append_that_is_accepted(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are there, the words once."""
    store = JsonlTranscriptStore(tmp_path / "transcripts", files=(files := MeddlingFiles()))
    async with Transcripts(store, on_takeover="accept").open("a") as transcript:
        await transcript.append(user("first"))
        files.meddle = True
        await transcript.append(user("second"))
        assert said(transcript.entries) == ["first", "by hand", "second"]
    assert said(await make().read("a")) == ["first", "by hand", "second"]
    assert salvaged_in(tmp_path / "transcripts") == []


class MeddlingFiles(FaultyFiles):
    """Somebody else appends in the very moment of an append, once."""

    def __init__(self) -> None:
        super().__init__(Faults(10**6, "EIO"))
        self.meddle = False

    def append(self, fd: int, content: bytes) -> None:
        if self.meddle:
            self.meddle = False
            os.write(fd, line(user("by hand")))
        super().append(fd, content)


async def test_loops_of_other_threads_share_the_lock_not_the_line(make: Make) -> None:
    """Each is a stranger to the others, as another process is; nobody waits for a wake-up that never comes."""
    transcripts = make(lock_timeout=10)

    async def several(name: str) -> None:
        for number in range(10):
            await transcripts.append("a", user(f"{name} {number}"))

    def run(name: str) -> None:
        asyncio.run(several(name))

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two", "three")]
    async with asyncio.timeout(15):
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
    assert len(await transcripts.read("a")) == 30


async def test_a_tool_in_a_thread_with_a_loop_of_its_own_appends_as_a_stranger(make: Make) -> None:
    """While the turn is out it is an owned write of another; while the turn has the lock it is busy, and salvaged."""
    transcripts = make(lock_timeout=0.05)

    def tool(text: str) -> None:
        asyncio.run(transcripts.append("a", user(text)))

    async with transcripts.open("a") as transcript:
        async with transcript.released() as prompt:
            await asyncio.to_thread(tool, "out")
        assert said(prompt.changes) == ["out"]
        with pytest.raises(TranscriptBusy):
            await asyncio.to_thread(tool, "held")
        await transcript.append(user("after"))
    assert said(await transcripts.read("a")) == ["out", "after"]
    assert salvaged_in(Path(transcripts.store.where)) == ["held"]


async def test_an_entry_too_deep_for_readers_is_refused(transcripts: Transcripts) -> None:
    """Before it is stored; one that is not is read from anywhere."""
    deep: dict[str, Any] = {}
    for _ in range(150):
        deep = {"in": [deep]}
    with pytest.raises(ValueError, match="nested more than 200 levels"):
        await transcripts.append("a", deep)
    wide: dict[str, Any] = {"content": [{} for _ in range(1000)]}
    await transcripts.append("a", wide)
    assert await transcripts.read("a") == (wide,)


async def test_a_cancelled_scope_does_not_spin_while_the_lock_is_waited_for(make: Make) -> None:
    """The way back waits for a peer without being cancelled at each step; its failure is told by the next use."""
    transcripts, peer = make(lock_timeout=0.3), make()
    async with AsyncExitStack() as stack, transcripts.open("a") as transcript:
        with anyio.CancelScope() as scope:
            async with transcript.released() as prompt:
                prompt.stage(user("reply"))
                await stack.enter_async_context(peer.open("a"))
                scope.cancel()
                began = time.thread_time()
                await anyio.lowlevel.checkpoint()
        assert time.thread_time() - began < 0.15
        with pytest.raises(TranscriptBusy):
            await transcript.append(user("next"))
    assert salvaged_in(Path(transcripts.store.where)) == ["reply", "next"]


async def test_a_release_that_outlives_the_block_does_not_open_it_again(make: Make) -> None:
    """A child that comes back after the end: its words are salvaged, and the transcript stays closed."""
    transcripts = make()
    out, back = asyncio.Event(), asyncio.Event()

    async def child() -> None:
        async with transcript.released() as prompt:
            out.set()
            await back.wait()
            prompt.stage(user("late"))

    async with transcripts.open("a") as transcript:
        task = asyncio.create_task(child())
        await out.wait()
    back.set()
    with pytest.raises(TranscriptUnavailable, match="its block has ended"):
        await task
    assert not transcript.is_open
    assert salvaged_in(Path(transcripts.store.where)) == ["late"]


@pytest.mark.parametrize("kind", ["fifo", "link", "directory"])
async def test_what_is_no_file_is_refused_from_outside_too(tmp_path: Path, kind: str) -> None:
    """Nothing waits for the other end, and no link is followed."""
    path = tmp_path / "x.jsonl"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
        return
    with pytest.raises(TranscriptUnavailable):
        inspect(path)
    assert transcripts_at(tmp_path) == (path,)


async def test_one_journal_that_is_none_hides_nobody_else(
    transcripts: Transcripts, caplog: pytest.LogCaptureFixture
) -> None:
    """Listing, sweeping and deleting go on, and say what they passed over."""
    directory = Path(transcripts.store.where)
    for name in ("a", "b"):
        await transcripts.append(name, user("one"))
    (directory / "b.jsonl.journal").write_bytes(b"x" * 5000)
    (directory / "b.1.tombstone.jsonl").write_bytes(b"")
    assert await transcripts.list() == ("a",)
    await transcripts.delete("a")
    assert await transcripts.list() == ()
    assert "not_listed" in caplog.text
    assert "sweep_skipped" in caplog.text
