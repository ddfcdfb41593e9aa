"""Somebody edits the file between two steps of an owned write: the races that tests/models/fence.pml has shown."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from support.transcripts_faults import Faults, FaultyFiles, Killed
from support.transcripts_scenes import line, said, user
from turnlane.errors import TranscriptTakeover
from turnlane.hooks import Hooks, TranscriptAdopted
from turnlane.testing import ManualClock
from turnlane.transcripts import JsonlTranscriptStore, Transcripts
from turnlane.transcripts.files import Files

SECOND = 1_000_000_000


class EditedWhenMade(Files):
    """Somebody appends to a transcript as soon as there is a file."""

    def open(self, path: str, flags: int) -> int:
        fd = super().open(path, flags)
        if flags & os.O_EXCL:
            os.write(fd, line(user("by hand")))
        return fd


class CoarseStamps(Files):
    """A kernel that stamps a change with the tick it is made in, and a disk that takes a second where it is slow."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.stamps: dict[int, int] = {}
        self.slow = False

    def stamp(self, fd: int) -> None:
        self.stamps[os.fstat(fd).st_ino] = self.clock.wall_ns()

    def status(self, fd: int) -> os.stat_result:
        return self._stamped(super().status(fd))

    def status_of(self, path: str) -> os.stat_result | None:
        status = super().status_of(path)
        return None if status is None else self._stamped(status)

    def write(self, fd: int, start: int, content: bytes) -> None:
        super().write(fd, start, content)
        self.stamp(fd)

    def append(self, fd: int, content: bytes) -> None:
        super().append(fd, content)
        self.stamp(fd)

    def cut(self, fd: int, length: int) -> None:
        super().cut(fd, length)
        self.stamp(fd)

    def sync(self, fd: int) -> None:
        if self.slow:
            self.clock.advance(1)

    def edit(self, path: Path, old: bytes, new: bytes) -> None:
        """Somebody else writes the file, in this tick."""
        with path.open("r+b") as file:
            content = file.read()
            file.seek(0)
            file.write(content.replace(old, new))
            self.stamp(file.fileno())

    def _stamped(self, status: os.stat_result) -> os.stat_result:
        ns = self.stamps.get(status.st_ino, 0)
        return os.stat_result(tuple(status), {"st_mtime_ns": ns, "st_ctime_ns": ns})


class EditedWhileAppending(Files):
    """Somebody changes a transcript right before, or right after, our words are written to it."""

    def __init__(self, edit: Callable[[int], None], *, after: bool) -> None:
        self.edit: Callable[[int], None] | None = None
        self._given = edit
        self._after = after

    def arm(self) -> None:
        self.edit = self._given

    def append(self, fd: int, content: bytes) -> None:
        edit, self.edit = self.edit, None
        if edit is not None and not self._after:
            edit(fd)
        super().append(fd, content)
        if edit is not None and self._after:
            edit(fd)


def somebody_appends(fd: int) -> None:
    os.write(fd, line(user("by hand")))


def somebody_edits(fd: int) -> None:
    with Path(f"/proc/self/fd/{fd}").open("r+b") as file:
        file.seek(os.pread(fd, 1000, 0).index(b"first"))
        file.write(b"FIRST")


class EditedInRecovery(Files):
    """Somebody edits a transcript when recovery is about to write its end once more."""

    def __init__(self) -> None:
        self.path: Path | None = None

    def append(self, fd: int, content: bytes) -> None:
        if self.path is not None:
            self.path.write_bytes(self.path.read_bytes().replace(b"first", b"FIRST"))
        super().append(fd, content)


class KilledAfterAppend(FaultyFiles):
    """An append is whole in the file, and nobody has noted it."""

    def __init__(self) -> None:
        super().__init__(Faults(-1, "kill"))

    def append(self, fd: int, content: bytes) -> None:
        super().append(fd, content)
        self.faults.dead = True


async def by_a_turn(transcripts: Transcripts) -> None:
    async with transcripts.open("new") as transcript:
        assert transcript.entries == ()
        await transcript.append(user("one"))


async def by_a_release(transcripts: Transcripts) -> None:
    async with transcripts.open("new") as transcript, transcript.released():
        pass


async def by_a_peer(transcripts: Transcripts) -> None:
    await transcripts.append("new", user("one"))


@pytest.mark.parametrize("find", [by_a_turn, by_a_release, by_a_peer])
async def test_what_somebody_wrote_into_a_new_file_is_not_owned(
    tmp_path: Path, find: Callable[[Transcripts], Awaitable[None]]
) -> None:
    """The file was made a moment ago by us; what is in it now is not ours all the same."""
    hooks, adopted = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, adopted.append)
    with pytest.raises(TranscriptTakeover) as found:
        await find(Transcripts(JsonlTranscriptStore(tmp_path, files=EditedWhenMade()), hooks=hooks))
    assert found.value.kind == "appended" or find is by_a_peer
    assert adopted == []
    async with Transcripts(tmp_path, hooks=hooks).open("new") as transcript:
        assert said(transcript.entries)[0] == "by hand"
    assert len(adopted) == 1


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="opens the file by its descriptor")
@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
@pytest.mark.parametrize("edit", [somebody_appends, somebody_edits])
async def test_an_edit_in_the_moment_of_an_append_is_not_owned(
    tmp_path: Path, edit: Callable[[int], None], after: bool
) -> None:
    """By the append itself, or by the next look at the content; also by who is out, and by nobody who comes later."""
    files = EditedWhileAppending(edit, after=after)
    here = Transcripts(JsonlTranscriptStore(tmp_path, files=files))
    hooks, adopted = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, adopted.append)

    async def append_meanwhile() -> None:
        async with here.open("a") as transcript:
            files.arm()
            await transcript.append(user("second"))
            async with transcript.released():
                pytest.fail("it was let out")

    with pytest.raises(TranscriptTakeover) as outside:
        async with Transcripts(tmp_path, hooks=hooks).open("a") as out:
            await out.append(user("first"))
            async with out.released():
                with pytest.raises(TranscriptTakeover) as inside:
                    await append_meanwhile()
                assert inside.value.phase == ("append" if edit is somebody_appends else "release")
    assert outside.value.phase == "return"
    assert adopted == []
    with pytest.raises(TranscriptTakeover):
        async with Transcripts(tmp_path, at_open="raise").open("a"):
            pytest.fail("it was taken for owned")


async def test_an_append_does_not_settle_a_fingerprint_that_was_too_young(tmp_path: Path) -> None:
    """The stamps of a large file did not move with an edit; that those of the next append are old proves nothing."""
    clock = ManualClock(wall=1_700_000_000.5)
    files = CoarseStamps(clock)
    transcripts = Transcripts(JsonlTranscriptStore(tmp_path, verify_up_to=0, sync=True, files=files, clock=clock))
    with pytest.raises(TranscriptTakeover) as found:
        async with transcripts.open("large") as transcript:
            await transcript.append(user("first"), user("second"))
            files.edit(Path(transcript.path), b"first", b"FIRST")
            files.slow = True
            await transcript.append(user("third"))
            async with transcript.released():
                pass
    assert (found.value.kind, found.value.line, found.value.phase) == ("edited", 1, "release")


async def test_a_fingerprint_that_was_old_enough_is_settled_by_the_next_append(tmp_path: Path) -> None:
    """No content is read where the fingerprints prove that nothing can have happened."""
    clock = ManualClock(wall=1_700_000_000.5)
    files = CoarseStamps(clock)
    transcripts = Transcripts(JsonlTranscriptStore(tmp_path, verify_up_to=0, sync=True, files=files, clock=clock))
    async with transcripts.open("large") as transcript:
        files.slow = True
        await transcript.append(user("first"))
        async with transcript.released():
            pass
        await transcript.append(user("second"), user("third"))
        path = Path(transcript.path)
        content = path.read_bytes()
        path.write_bytes(content.replace(b"first", b"FIRST"))  # as through an old mapping: no stamp moves
        async with transcript.released():
            pass
        path.write_bytes(content)


async def test_an_edit_while_recovery_writes_is_found_in_a_large_file(tmp_path: Path) -> None:
    """The fingerprint after it is owned only if the content is."""
    files = EditedInRecovery()
    transcripts = Transcripts(JsonlTranscriptStore(tmp_path, verify_up_to=0, sync=True, files=files))
    with pytest.raises(TranscriptTakeover) as found:
        async with transcripts.open("large") as transcript:
            await transcript.append(user("first"))
            async with transcript.released():
                with pytest.raises(Killed):
                    peer = JsonlTranscriptStore(tmp_path, sync=True, files=KilledAfterAppend())
                    await Transcripts(peer).append("large", user("second"))
                files.path = Path(transcript.path)
    assert (found.value.kind, found.value.line, found.value.phase) == ("edited", 1, "return")
