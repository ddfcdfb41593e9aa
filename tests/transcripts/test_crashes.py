"""A writer that dies, or whose calls fail, at each call in turn: what was acknowledged stays, the next one goes on."""

# pyright: reportPrivateUsage=false

import errno
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from support.transcripts_faults import Faults, FaultyFiles, Killed
from support.transcripts_scenes import said, salvaged_in, user
from turnlane.errors import TranscriptError
from turnlane.hooks import Hooks, TranscriptAdopted
from turnlane.transcripts import JsonlTranscriptStore, Transcripts
from turnlane.transcripts.jsonl_handle import JsonlHandle

ERRORS = ["ENOSPC", "EIO", "EMFILE", "EROFS", "EACCES", "EINTR", "EDQUOT"]
MOST_CALLS = 60

Operation = Callable[[Transcripts, list[str]], Awaitable[None]]


async def first_append(transcripts: Transcripts, acknowledged: list[str]) -> None:
    """The transcript is not there yet."""
    await transcripts.append("new", user("one"))
    acknowledged.append("one")


async def append(transcripts: Transcripts, acknowledged: list[str]) -> None:
    await transcripts.append("old", user("one"))
    acknowledged.append("one")
    await transcripts.append("old", user("two"), user("three"))
    acknowledged += ["two", "three"]


async def turn(transcripts: Transcripts, acknowledged: list[str]) -> None:
    """Open, append, release with an append inside, a staged reply, close."""
    async with transcripts.open("old", token=7, turn="turn-7") as transcript:
        await transcript.append(user("one"))
        acknowledged.append("one")
        async with transcript.released() as prompt:
            await transcript.append(user("two"))
            acknowledged.append("two")
            prompt.stage(user("three"))
        acknowledged.append("three")


OPERATIONS: dict[str, Operation] = {"first append": first_append, "append": append, "turn": turn}


def of(directory: Path, faults: Faults | None = None, *, sync: bool = False, hooks: Hooks | None = None) -> Transcripts:
    files = None if faults is None else FaultyFiles(faults)
    return Transcripts(JsonlTranscriptStore(directory, files=files, sync=sync), hooks=hooks)


async def aftermath(directory: Path, acknowledged: list[str]) -> None:
    """Look at what a fault left behind with a process that has none."""
    hooks, adopted = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, adopted.append)
    transcripts = of(directory, hooks=hooks)
    for session_id in ("old", "new"):
        async with transcripts.open(session_id) as transcript:
            await transcript.append(user("next"))
        texts = said(await transcripts.read(session_id))
        assert texts[-1] == "next"
        assert len(set(texts)) == len(texts), "something is stored twice"
        before = [text for text in texts[:-1] if text != "zero"]
        assert before == ["one", "two", "three"][: len(before)], "something is missing in the middle"
        if session_id == "old":
            assert texts[0] == "zero"
    stored = said(await transcripts.read("old")) + said(await transcripts.read("new"))
    assert [text for text in acknowledged if text not in stored] == []
    assert adopted == [], "an owned write was taken for somebody else's"


@pytest.mark.parametrize("sync", [False, True], ids=["process", "power"])
@pytest.mark.parametrize("halves", [False, True], ids=["before", "half-way"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_killed_at_each_call(tmp_path: Path, name: str, halves: bool, sync: bool) -> None:
    """The process ends there, with the call not made or half made; nothing acknowledged is lost or doubled."""
    for number in range(MOST_CALLS):
        directory = tmp_path / str(number)
        await of(directory).append("old", user("zero"))
        faults, acknowledged = Faults(number, "kill", halves=halves), list[str]()
        with suppress(Killed):
            await OPERATIONS[name](of(directory, faults, sync=sync), acknowledged)
        await aftermath(directory, acknowledged)
        if not faults.happened:
            assert acknowledged
            return
    pytest.fail(f"more than {MOST_CALLS} calls")


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_error_at_each_call(tmp_path: Path, name: str, kind: str, lasting: bool) -> None:
    """It is told as an error of this package, or dealt with; when it has gone away the next operation works."""
    for number in range(MOST_CALLS):
        directory = tmp_path / str(number)
        await of(directory).append("old", user("zero"))
        faults, acknowledged = Faults(number, kind, halves=True, lasting=lasting), list[str]()
        told: TranscriptError | None = None
        try:
            await OPERATIONS[name](of(directory, faults, sync=True), acknowledged)
        except TranscriptError as error:
            told = error
        await aftermath(directory, acknowledged)
        if not faults.happened:
            assert told is None
            return
        assert told is not None or "three" in acknowledged or name == "first append"
    pytest.fail(f"more than {MOST_CALLS} calls")


@pytest.mark.parametrize("kind", ["ENOSPC", "EIO"])
async def test_what_could_not_be_appended_is_salvaged(tmp_path: Path, kind: str) -> None:
    """A disk that fails for one write: the error says where the words are, and the file is as it was."""
    await of(tmp_path).append("old", user("zero"))
    found = 0
    for number in range(MOST_CALLS):
        faults = Faults(number, kind, halves=True)
        before = (tmp_path / "old.jsonl").read_bytes()
        try:
            await of(tmp_path, faults).append("old", user(f"words {number}"))
        except TranscriptError as error:
            assert "words" not in (tmp_path / "old.jsonl").read_bytes().decode().removeprefix(before.decode())
            notes = " ".join([str(error), *getattr(error, "__notes__", [])])
            assert f"words {number}" in (*salvaged_in(tmp_path), notes) or "old.salvage.jsonl" in notes
            found += 1
        if not faults.happened:
            break
    assert found > 3


async def test_words_that_can_not_even_be_salvaged_are_in_the_error(tmp_path: Path) -> None:
    """Nothing can be written any more: the error carries them, for a log."""
    await of(tmp_path).append("old", user("zero"))
    faults = Faults(1, "ENOSPC", lasting=True)
    with pytest.raises(TranscriptError) as refused:
        await of(tmp_path, faults).append("old", user("precious"))
    assert any("precious" in note for note in refused.value.__notes__)


async def test_an_append_that_was_killed_half_way_is_salvaged(tmp_path: Path) -> None:
    """What it left in the file is cut off again; the words go to the salvage, under nobody's name."""
    await of(tmp_path).append("old", user("zero"))
    faults = Faults(0, "kill", halves=True)
    for number in range(MOST_CALLS):
        faults = Faults(number, "kill", halves=True)
        with suppress(Killed):
            await of(tmp_path, faults).append("old", user("torn"))
        if faults.names[-1] == "append":
            break
    assert not (tmp_path / "old.jsonl").read_bytes().endswith(b"\n")
    assert said(await of(tmp_path).read("old"))[0] == "zero"
    assert (tmp_path / "old.jsonl").read_bytes().endswith(b"\n")
    assert "torn" in salvaged_in(tmp_path)


def test_the_errors_are_those_of_this_system() -> None:
    """A name that is misspelt would test nothing."""
    assert all(hasattr(errno, name) for name in ERRORS)


@pytest.mark.parametrize("finds", ["open", "return", "append", "owned_write"])
async def test_what_a_killed_writer_left_is_salvaged_although_somebody_edited_the_file(
    tmp_path: Path, finds: str
) -> None:
    """Whoever comes first is refused for the edit; the words of the one that died are kept all the same."""

    async def die_and_edit() -> None:
        for number in range(MOST_CALLS):
            faults = Faults(number, "kill", halves=True)
            with suppress(Killed):
                await of(tmp_path, faults).append("old", user("torn"))
            if faults.names[-1] == "append":
                break
        path = tmp_path / "old.jsonl"
        path.write_bytes(path.read_bytes().replace(b"zero", b"ZERO"))

    await of(tmp_path).append("old", user("zero"))
    transcripts = of(tmp_path)
    with pytest.raises(TranscriptError):
        if finds == "return":
            async with transcripts.open("old") as transcript, transcript.released():
                await die_and_edit()
        elif finds == "owned_write":
            async with transcripts.open("old") as transcript, transcript.released():
                await die_and_edit()
                transcript.owned_write(lambda: None, validate=lambda _, __: True)
        else:
            await die_and_edit()
            if finds == "append":
                await transcripts.append("old", user("mine"))
            async with transcripts.open("old", at_open="raise"):
                pass
    assert "torn" in salvaged_in(tmp_path)


async def test_a_journal_that_was_removed_is_no_lock(tmp_path: Path) -> None:
    """Two would hold two locks: whoever finds its own without its name is refused."""
    transcripts = of(tmp_path)
    async with transcripts.open("old") as transcript:
        with pytest.raises(TranscriptError, match="its journal was removed or replaced"):
            async with transcript.released():
                (tmp_path / "old.jsonl.journal").unlink()
        with pytest.raises(TranscriptError, match="its journal was removed or replaced"):
            transcript.owned_write(lambda: None, validate=lambda _, __: True)
    await of(tmp_path).append("old", user("fine"))


async def test_verify_always_reads_before_every_append(tmp_path: Path) -> None:
    """An edit that a fingerprint would not show is found by the very next append."""
    transcripts = Transcripts(tmp_path, verify="always")
    async with transcripts.open("old") as transcript:
        await transcript.append(user("zero"))
        file = cast("JsonlHandle", transcript._handle)._file
        path = tmp_path / "old.jsonl"
        path.write_bytes(path.read_bytes().replace(b"zero", b"ZERO"))
        file.record = file.record.seen(file.fingerprint(), settled=True)
        with pytest.raises(TranscriptError, match="was edited"):
            await transcript.append(user("one"))
