"""`TranscriptMonitor` on a path: directories of other programs, in which it writes nothing."""

import mmap
import os
from pathlib import Path

import pytest

from support.transcripts_scenes import EDITS, Edit, append, append_half_a_line, edit_in_place, line, truncate, user
from support.transcripts_watched import deaf, found_by
from turnlane.hooks import Hooks, UnownedEditFound
from turnlane.transcripts import TranscriptMonitor, Transcripts
from turnlane.transcripts.pacing import Pace
from turnlane.transcripts.patrol import Patrol

APPENDS = {"append", "append a blank line", "append half a line"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of another program."""
    path = tmp_path / "session.jsonl"
    path.write_bytes(line(user("first")) + line(user("second")))
    return path


@pytest.mark.parametrize("name", EDITS)
async def test_each_edit_is_told_by_its_kind_and_nothing_is_written(path: Path, name: str) -> None:
    """Appends only where they are asked for."""
    edit, kind = EDITS[name]
    async with found_by(path.parent, appends=name in APPENDS) as found:
        edit(path)
        names = sorted(os.listdir(path.parent))
        event = await found.next()
        await found.nothing()
    assert (event.path, event.kind, event.session_id, event.turns) == (str(path), kind, None, ())
    assert sorted(os.listdir(path.parent)) == names


async def test_appends_are_what_the_program_is_there_for(path: Path) -> None:
    """They are not told unless asked for, and what was appended counts as known from then on."""
    async with found_by(path.parent) as found:
        for edit in (append, append_half_a_line, append):
            edit(path)
            await found.nothing()
        edit_in_place(path)
        assert ((event := await found.next()).kind, event.line) == ("edited", 1)
        truncate(path)
        assert ((event := await found.next()).kind, event.line, event.offset) == (
            "truncated",
            2,
            len(line(user("first"))),
        )


@pytest.mark.parametrize("size", [100, 200_000, 3_000_000])
async def test_files_of_any_length_grow_and_are_edited(path: Path, size: int) -> None:
    """Of a long one only what was added is read at each append; the audit reads all of it."""
    path.write_bytes(b"".join(line(user(f"entry {number}")) for number in range(size // 40)))
    lines = len(path.read_bytes().splitlines())
    async with found_by(path.parent, appends=True) as found:
        await found.monitor.audit()
        for number in range(3):
            append(path)
            assert ((event := await found.next()).kind, event.line) == ("appended", lines + number + 1)
        with path.open("r+b") as file:
            file.seek(2)
            file.write(b"ROLE")
        assert ((event := await found.next()).kind, event.line) == ("edited", 1)


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (append, "appended"),
        (truncate, "truncated"),
        (edit_in_place, "unknown"),
        (EDITS["replace by a file of the same size"][0], "replaced"),
    ],
)
async def test_a_long_file_is_told_of_before_it_was_read(path: Path, edit: Edit, kind: str) -> None:
    """By what the file system says of it."""
    path.write_bytes(line(user("first")) * 10_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Patrol, "audit", no_audit)
        async with found_by(path.parent, appends=True) as found:
            edit(path)
            assert (await found.next()).kind == kind


async def no_audit(patrol: Patrol, pace: Pace) -> None:
    """It is not its turn yet."""


async def test_an_append_hides_an_edit_of_a_long_file_only_until_the_audit(path: Path) -> None:
    """Both at once look like an append."""
    path.write_bytes(line(user("first")) * 10_000)
    async with found_by(path.parent, watcher=deaf) as found:
        await found.monitor.audit()
        content = path.read_bytes()
        path.write_bytes(content.replace(b"first", b"FIRST", 1) + line(user("more")))
        await found.nothing()
        await found.monitor.audit()
        assert ((event := await found.next()).kind, event.line) == ("edited", 1)


async def test_a_store_through_a_mapping_is_found_by_the_audit(path: Path) -> None:
    """And told once."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        at = mapping.find(b"second")
        mapping[at : at + 6] = b"second"
        async with found_by(path.parent) as found:
            before = path.stat().st_mtime_ns
            mapping[at : at + 6] = b"SECOND"
            assert path.stat().st_mtime_ns == before
            await found.nothing()
            await found.monitor.audit()
            assert ((event := await found.next()).kind, event.line) == ("edited", 2)
            await found.monitor.audit()
            await found.nothing()


async def test_deleted_and_made_again(path: Path) -> None:
    """Quickly it is one edit; slowly it is a deletion and a new file, which is nobody's edit."""
    async with found_by(path.parent) as found:
        path.unlink()
        path.write_bytes(line(user("other")))
        assert (await found.next()).kind in ("replaced", "edited")
        path.unlink()
        assert (await found.next()).kind == "deleted"
        path.write_bytes(line(user("anew")))
        await found.nothing()
        edit_in_place(path)
        append(path)
        await found.nothing()


async def test_transcripts_of_this_package_are_judged_by_their_journals(tmp_path: Path) -> None:
    """Owned writes are not told, whatever they do; an append that nobody owns is."""
    transcripts = Transcripts(tmp_path)
    async with found_by(tmp_path) as found:
        async with transcripts.open("a") as transcript:
            await transcript.append(user("first"), user("second"))
            await found.nothing()
        append(tmp_path / "a.jsonl")
        assert ((event := await found.next()).kind, event.session_id) == ("appended", "a")


async def test_directories_below_it_are_watched_if_asked_for(path: Path) -> None:
    """Also those that are made later."""
    hooks, heard = Hooks(), list[UnownedEditFound]()
    hooks.on(UnownedEditFound, heard.append)
    async with found_by(path.parent, recursive=True, hooks=hooks) as found:
        for number in range(5):
            below = path.parent / f"project-{number}" / "deep"
            below.mkdir(parents=True)
            (below / "s.jsonl").write_bytes(line(user("first")))
        await found.monitor.scan()
        assert found.monitor.statistics().files == 6
        for number in range(5):
            edited = path.parent / f"project-{number}" / "deep" / "s.jsonl"
            edit_in_place(edited)
            event = await found.next()
            assert (event.path, event.kind) == (str(edited), "edited")
    assert len(heard) == 5


async def test_a_link_is_no_transcript(path: Path) -> None:
    """It is never followed; one in the place of a file has replaced it."""
    (path.parent / "link.jsonl").symlink_to(path)
    async with found_by(path.parent) as found:
        edit_in_place(path)
        assert (await found.next()).path == str(path)
        await found.nothing()
        other = path.with_suffix(".txt")
        path.rename(other)
        path.symlink_to(other)
        assert ((event := await found.next()).kind, event.path) == ("replaced", str(path))


async def test_a_relative_path_and_one_through_a_link(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events name files as the directory was named."""
    monkeypatch.chdir(path.parent)
    Path("here").symlink_to(".")
    for directory in (".", "here"):
        async with found_by(directory) as found:
            os.truncate(path, path.stat().st_size - 1)
            assert (await found.next()).path == os.path.join(directory, "session.jsonl")
            assert repr(found.monitor) == f"<TranscriptMonitor {directory} open>"
    assert repr(TranscriptMonitor("x")) == "<TranscriptMonitor x closed>"
