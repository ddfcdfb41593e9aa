"""What `durability="power"` syncs, where it waits for it, and what it makes of a disk that gave some of it up."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support.transcripts_aftermath import die_half_way, salvaged_in
from support.transcripts_scenes import said, user
from turnlane.errors import TranscriptUnavailable
from turnlane.transcripts import JsonlTranscriptStore, Transcripts, jsonl
from turnlane.transcripts.files import Files
from turnlane.transcripts.inspection import inspect
from turnlane.transcripts.settling import adopt


class Watched(Files):
    """Remembers which directories were synced, and how often the event loop waited for the disk.

    Mutable: `directories`, `waits`, and `fails`, asked before each sync of a file whether it shall fail.
    """

    def __init__(self, fails: Callable[[int], bool] = lambda _: False) -> None:
        self.directories: list[str] = []
        self.waits = 0
        self.fails = fails

    def sync(self, fd: int) -> None:
        self._look()
        if self.fails(fd):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def sync_directory(self, path: str) -> None:
        self._look()
        self.directories.append(path)

    def _look(self) -> None:
        self.waits += threading.current_thread() is threading.main_thread()


def on(directory: Path, files: Files) -> Transcripts:
    return Transcripts(JsonlTranscriptStore(directory, files=files, sync=True), lock_timeout=1)


async def test_the_event_loop_never_waits_for_the_disk(tmp_path: Path) -> None:
    """Not in an open, an append, a release, a salvage, a recovery, nor where the directory is made."""
    files = Watched()
    transcripts = on(tmp_path / "there", files)
    await transcripts.append("old", user("zero"))
    async with transcripts.open("old") as transcript, transcript.released() as prompt:
        await transcript.append(user("one"))
        prompt.stage(user("two"))
    with pytest.raises(ZeroDivisionError):
        async with transcripts.open("old") as transcript, transcript.released() as prompt:
            prompt.stage(user("three"))
            raise ZeroDivisionError
    await die_half_way(tmp_path / "there")
    await transcripts.append("old", user("four"))
    assert files.waits == 0
    assert files.directories.count(str(tmp_path / "there")) > 2
    assert salvaged_in(tmp_path / "there") == ["three", "torn", "torn too"]


async def test_every_directory_that_is_made_has_its_name_on_the_disk(tmp_path: Path) -> None:
    """Its parents too; where it was there, only its own name, if its parent may be opened at all."""
    files = Watched()
    await on(tmp_path / "a" / "b", files).append("old", user("zero"))
    assert set(files.directories) == {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")}

    class Closed(Watched):
        def sync_directory(self, path: str) -> None:
            super().sync_directory(path)
            if path != str(tmp_path / "a" / "b"):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    files = Closed()
    await on(tmp_path / "a" / "b", files).append("old", user("one"))
    assert set(files.directories) == {str(tmp_path / "a"), str(tmp_path / "a" / "b")}
    with pytest.raises(TranscriptUnavailable):
        await on(tmp_path / "c", files).append("old", user("one"))


async def test_a_payload_that_never_reached_the_disk_is_not_salvaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of a write arrived without it: what stands in its place are words that are stored long since."""
    await Transcripts(tmp_path).append("old", user("zero"))
    before = (tmp_path / "old.jsonl.journal").read_bytes()[5120:]
    content = (tmp_path / "old.jsonl").read_bytes()
    await die_half_way(tmp_path)
    journal = (tmp_path / "old.jsonl.journal").read_bytes()
    (tmp_path / "old.jsonl.journal").write_bytes(journal[:5120] + before.ljust(len(journal) - 5120, b"\0"))
    (tmp_path / "old.jsonl").write_bytes(content)
    monkeypatch.setattr(jsonl, "boot_of", lambda: b"another".ljust(16))
    async with Transcripts(tmp_path).open("old", at_open="raise") as transcript:
        assert said(transcript.entries) == ["zero"]
    assert salvaged_in(tmp_path) == []


@pytest.mark.parametrize("left", [b"", b"\0" * 512, b"turnlane journal 1\n", b"\0" * 5000])
async def test_a_journal_that_a_power_loss_left_in_part_is_made_whole(tmp_path: Path, left: bytes) -> None:
    """Zeros in the place of its name; the name of another session is refused all the same."""
    (tmp_path / "old.jsonl.journal").write_bytes(left)
    await Transcripts(tmp_path).append("old", user("zero"))
    assert await Transcripts(tmp_path).list() == ("old",)
    assert inspect(tmp_path / "old.jsonl").is_well
    (tmp_path / "oldest.jsonl.journal").write_bytes((tmp_path / "old.jsonl.journal").read_bytes())
    with pytest.raises(TranscriptUnavailable, match="journal of session 'old'"):
        await Transcripts(tmp_path).append("oldest", user("zero"))


@pytest.mark.parametrize("left", [b"", bytes(4096), bytes(6000)], ids=["empty", "zeros", "more zeros"])
async def test_a_journal_of_which_a_power_loss_left_nothing_hides_no_transcript(tmp_path: Path, left: bytes) -> None:
    """It is listed, judged and settled like one that has no journal; no tombstone is looked for in it."""
    await Transcripts(tmp_path).append("a", user("one"))
    (tmp_path / "a.jsonl.journal").write_bytes(left)
    (tmp_path / "b.jsonl.journal").write_bytes(left)  # of one that had only begun
    transcripts = Transcripts(tmp_path, retain_days=0)
    assert await transcripts.list() == ("a",)
    assert await transcripts.sweep() == 0
    assert inspect(tmp_path / "b.jsonl").is_well
    found = inspect(tmp_path / "a.jsonl").finding
    assert found is not None
    assert found.kind == "unknown"
    assert (tmp_path / "a.jsonl.journal").read_bytes() == left
    adopt(tmp_path / "a.jsonl")
    assert inspect(tmp_path / "a.jsonl").is_well
    async with transcripts.open("a", at_open="raise") as transcript:
        assert said(transcript.entries) == ["one"]


async def test_the_end_of_a_write_that_could_not_be_synced_is_no_edit(tmp_path: Path) -> None:
    """Its record may be in the journal when the write is undone, and the undoing may fail too, at each sync."""
    for number in range(1, 12):
        directory = tmp_path / str(number)
        for first in range(1, number + 1):
            count = 0

            def fails(_: int, first: int = first, last: int = number) -> bool:
                nonlocal count
                count += 1
                return first <= count <= last

            await Transcripts(directory).append(f"s{first}", user("zero"))
            with pytest.raises(TranscriptUnavailable):
                for text in ("one", "two", "three", "four"):
                    await on(directory, Watched(fails)).append(f"s{first}", user(text))
            async with Transcripts(directory).open(f"s{first}", at_open="raise") as transcript:
                texts = said(transcript.entries)
            assert texts == ["zero", "one", "two", "three", "four"][: len(texts)]
