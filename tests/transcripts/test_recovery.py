"""Who comes after a writer that died, and may die too: the words are kept, the lock goes, errors are told as ours."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from support.transcripts_aftermath import die_half_way, salvaged_in
from support.transcripts_faults import Faults, FaultyFiles, Killed
from support.transcripts_scenes import said, user
from turnlane.errors import TranscriptUnavailable
from turnlane.transcripts import JsonlTranscriptStore, Transcripts
from turnlane.transcripts.files import Files
from turnlane.transcripts.inspection import inspect
from turnlane.transcripts.settling import adopt

MOST_CALLS = 60


async def test_all_entries_of_an_append_that_was_killed_are_salvaged_as_entries(tmp_path: Path) -> None:
    """Two of one call are two in the salvage, not a lump of bytes."""
    await Transcripts(tmp_path).append("old", user("zero"))
    await die_half_way(tmp_path)
    await Transcripts(tmp_path).append("old", user("one"))
    assert salvaged_in(tmp_path) == ["torn", "torn too"]


@pytest.mark.parametrize("kind", ["kill", "ENOSPC"])
async def test_who_recovers_may_die_at_each_call_and_the_words_are_kept(tmp_path: Path, kind: str) -> None:
    """What a writer has left is in the journal until it is in the salvage."""
    for number in range(MOST_CALLS):
        directory = tmp_path / str(number)
        await Transcripts(directory).append("old", user("zero"))
        await die_half_way(directory)
        faults = Faults(number, kind, halves=True)
        with suppress(Killed, TranscriptUnavailable):
            async with Transcripts(JsonlTranscriptStore(directory, files=FaultyFiles(faults))).open("old"):
                pass
        async with Transcripts(directory).open("old", at_open="raise") as transcript:
            assert said(transcript.entries) == ["zero"]
        assert [text for text in salvaged_in(directory) if text is not None][-2:] == ["torn", "torn too"]
        if not faults.happened:
            return
    pytest.fail(f"more than {MOST_CALLS} calls")


async def test_an_operator_salvages_what_a_dead_writer_left(tmp_path: Path) -> None:
    """Settling by hand recovers first, as an open does."""
    await Transcripts(tmp_path).append("old", user("zero"))
    await die_half_way(tmp_path)
    adopt(tmp_path / "old.jsonl")
    assert inspect(tmp_path / "old.jsonl").is_well
    assert salvaged_in(tmp_path) == ["torn", "torn too"]


async def test_a_torn_line_of_the_salvage_does_not_spoil_the_next(tmp_path: Path) -> None:
    """Whoever wrote it died there too: the next rescue begins a line of its own."""
    store = Transcripts(tmp_path).store
    await Transcripts(tmp_path).append("old", user("zero"))
    (tmp_path / "old.salvage.jsonl").write_bytes(b'{"at": 1, "ent')
    await die_half_way(tmp_path)
    await Transcripts(store).append("old", user("one"))
    assert salvaged_in(tmp_path) == [None, "torn", "torn too"]


@pytest.mark.parametrize("code", [errno.EIO, errno.EINTR, errno.ENOSPC])
def test_what_the_kernel_complains_of_at_a_close_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The descriptor is gone, and what was written is for `sync` to tell; a wrong descriptor is told."""
    files, close = Files(), os.close
    fd = files.open(str(tmp_path / "file"), os.O_RDWR | os.O_CREAT)

    def complain(fd: int) -> None:
        close(fd)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", complain)
        files.close(fd)
    with pytest.raises(OSError, match="descriptor"):
        files.close(fd)


class Stubborn(Files):
    """Lets no lock go, but by closing."""

    __slots__ = ()

    def unlock(self, fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


async def test_a_lock_that_can_not_be_let_go_goes_with_its_file(tmp_path: Path) -> None:
    """Others get it during a release, and the turn comes back all the same."""
    stubborn = Transcripts(JsonlTranscriptStore(tmp_path, files=Stubborn()), lock_timeout=1)
    others = Transcripts(tmp_path, lock_timeout=1)
    async with stubborn.open("old") as transcript:
        await transcript.append(user("one"))
        async with transcript.released() as prompt:
            await others.append("old", user("two"))
            prompt.stage(user("three"))
        assert said(prompt.changes) == ["two"]
        await transcript.append(user("four"))
    await others.append("old", user("five"))
    assert said(await others.read("old")) == ["one", "two", "three", "four", "five"]
