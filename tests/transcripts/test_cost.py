"""What appends and looks read and write, counted: it does not grow with the transcript, and much is not read inline."""

import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from support.transcripts_scenes import line, said, user
from turnlane.testing import ManualClock
from turnlane.transcripts import JsonlTranscriptStore, Transcripts
from turnlane.transcripts.files import Files
from turnlane.transcripts.working import INLINE_BYTES

ENTRY = user("x" * 1000)
BOUND = 4 * INLINE_BYTES
STEPS = ("append", "release and return", "append, not open")


class Counted(Files):
    """Counts the calls, and the bytes that are read and written, and what is read at most on the event loop."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.most_inline = 0
        self._loop = threading.get_ident()

    def read(self, fd: int, start: int, length: int) -> bytes:
        found = super().read(fd, start, length)
        self.seen.update({"reads": 1, "bytes read": len(found)})
        if threading.get_ident() == self._loop:
            self.most_inline = max(self.most_inline, len(found))
        return found

    def write(self, fd: int, start: int, content: bytes) -> None:
        self.seen.update({"writes": 1, "bytes written": len(content)})
        super().write(fd, start, content)

    def append(self, fd: int, content: bytes) -> None:
        self.seen.update({"appends": 1, "bytes appended": len(content)})
        super().append(fd, content)

    def taken(self) -> Counter[str]:
        """Return what was counted, and begin anew."""
        found, self.seen = self.seen, Counter()
        return found


async def counted(directory: Path, entries: int) -> tuple[dict[str, Counter[str]], Counted]:
    """Count each step at a transcript with so many entries; its time stamps are old enough to be believed."""
    files, found = Counted(), dict[str, Counter[str]]()
    clock = ManualClock(wall=time.time() + 3600)
    store = JsonlTranscriptStore(directory, verify_up_to=BOUND, files=files, clock=clock)
    transcripts = Transcripts(store)
    async with transcripts.open("a") as transcript:
        await transcript.append(*[ENTRY] * entries)
        await transcript.append(ENTRY)
        for step in STEPS[:2]:
            files.taken()
            if step == "append":
                await transcript.append(ENTRY)
            else:
                async with transcript.released():
                    pass
            found[step] = files.taken()
    files.taken()
    await transcripts.append("a", ENTRY)
    found[STEPS[2]] = files.taken()
    return found, files


async def test_what_is_read_and_written_does_not_grow_with_the_transcript(tmp_path: Path) -> None:
    """An append at any size; a release and return above the bound up to which the content is compared."""
    small, _ = await counted(tmp_path / "small", BOUND // 1000 + 10)
    large, _ = await counted(tmp_path / "large", 5000)
    for step in STEPS:
        assert small[step] == large[step], step
        assert large[step]["bytes read"] < 20_000, step
    tiny, _ = await counted(tmp_path / "tiny", 1)
    assert tiny["append"] == large["append"]
    assert tiny["append, not open"] == large["append, not open"]


async def test_up_to_the_bound_all_of_it_is_read_and_not_on_the_event_loop(tmp_path: Path) -> None:
    """By an open, a release, the way back and a close."""
    found, files = await counted(tmp_path, 2 * INLINE_BYTES // 1000)
    assert found["release and return"]["bytes read"] > 4 * INLINE_BYTES  # once for each
    async with Transcripts(JsonlTranscriptStore(tmp_path, files=files)).open("a") as transcript:
        assert len(transcript.entries) > 100
    assert files.seen["bytes read"] > 2 * INLINE_BYTES
    assert 0 < files.most_inline <= INLINE_BYTES


async def test_one_entry_is_one_write_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever reads the file meanwhile sees all of it or nothing; a journal and a salvage are written else."""
    written, writes = list[bytes](), os.write

    def recorded(fd: int, content: bytes) -> int:
        written.append(bytes(content))
        return writes(fd, content)

    transcripts = Transcripts(tmp_path)
    async with transcripts.open("a") as transcript:
        monkeypatch.setattr(os, "write", recorded)
        await transcript.append(user("one"))
        async with transcript.released() as prompt:
            prompt.stage(user("two"))
        await transcript.append(user("long " * INLINE_BYTES))
    await transcripts.append("a", user("four"))
    monkeypatch.undo()
    assert b"".join(written) == (tmp_path / "a.jsonl").read_bytes()
    assert [part.count(b"\n") for part in written] == [1, 1, 1, 1]
    assert all(part.endswith(b"}\n") for part in written)


async def test_writes_that_the_system_cuts_short_are_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does where a signal comes, or the disk has little room; reads too."""
    writes, pwrites, reads = os.write, os.pwrite, os.pread

    def short_write(fd: int, content: memoryview) -> int:
        return writes(fd, content[:7])

    def short_pwrite(fd: int, content: memoryview, at: int) -> int:
        return pwrites(fd, content[:5], at)

    def short_read(fd: int, length: int, at: int) -> bytes:
        return reads(fd, min(length, 11), at)

    monkeypatch.setattr(os, "write", short_write)
    monkeypatch.setattr(os, "pwrite", short_pwrite)
    monkeypatch.setattr(os, "pread", short_read)
    transcripts = Transcripts(tmp_path)
    async with transcripts.open("a") as transcript:
        await transcript.append(user("one"), user("two"))
        async with transcript.released() as prompt:
            await Transcripts(tmp_path).append("a", user("peer"))
            prompt.stage(user("three"))
    with pytest.raises(ZeroDivisionError):
        async with transcripts.open("a") as transcript, transcript.released() as prompt:
            prompt.stage(user("salvaged"))
            raise ZeroDivisionError
    monkeypatch.undo()
    async with Transcripts(tmp_path, at_open="raise").open("a") as transcript:
        assert said(transcript.entries) == ["one", "two", "peer", "three"]
    assert b"".join(map(line, transcript.entries)).replace(b" ", b"") == (tmp_path / "a.jsonl").read_bytes()
    assert (tmp_path / "a.salvage.jsonl").read_bytes().count(b'"salvaged"') == 1
