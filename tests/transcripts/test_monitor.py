"""`TranscriptMonitor`: unowned edits are told, where and what, and nothing else is."""

# Blocks that raise are left in the middle.
# pyright: reportPossiblyUnboundVariable=false

import asyncio
import mmap
from pathlib import Path

import pytest

from support.transcripts_scenes import EDITS, Edit, append, edit_in_place, line, path_of, user
from support.transcripts_watched import deaf, found_by
from transcripts.conftest import Make
from transcripts.test_release import chmod, hard_link, read_it, touch_it, write_the_same
from turnlane.hooks import Hooks, UnownedEditFound
from turnlane.transcripts import TranscriptMonitor, Transcripts
from turnlane.transcripts.settling import adopt, cut_tail


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where `make` keeps transcripts."""
    path = tmp_path / "transcripts"
    path.mkdir()
    return path


@pytest.mark.parametrize("name", EDITS)
async def test_each_edit_is_told_by_its_kind(transcripts: Transcripts, directory: Path, name: str) -> None:
    """With its file and session; the journal is not touched."""
    edit, kind = EDITS[name]
    await transcripts.append("a", user("first"), user("second"))
    journal = (directory / "a.jsonl.journal").read_bytes()
    async with found_by(transcripts) as found:
        edit(directory / "a.jsonl")
        event = await found.until(kind)
        await found.monitor.scan()
    assert (event.path, event.session_id, event.turns) == (str(directory / "a.jsonl"), "a", ())
    assert (directory / "a.jsonl.journal").read_bytes() == journal


@pytest.mark.parametrize(
    ("name", "offset", "place"),
    [("append", 69, 3), ("truncate", 34, 2), ("replace by a file of the same size", 0, 1), ("delete", None, None)],
)
async def test_the_place_is_told(
    transcripts: Transcripts, directory: Path, name: str, offset: int | None, place: int | None
) -> None:
    """The first byte that differs, and its line; the hooks are told the same."""
    told: list[UnownedEditFound] = []
    transcripts.hooks.on(UnownedEditFound, told.append)
    await transcripts.append("a", user("first"), user("second"))
    async with found_by(transcripts) as found:
        EDITS[name][0](directory / "a.jsonl")
        event = await found.next()
    assert (event.offset, event.line) == (offset, place)
    assert event in told


async def test_an_edit_in_a_line_that_was_appended_later_is_placed(transcripts: Transcripts, directory: Path) -> None:
    """Owned appends move what the monitor knows of the file."""
    async with found_by(transcripts) as found:
        for number in range(300):
            await transcripts.append("a", user(f"entry {number}"))
        await found.monitor.scan()
        path = directory / "a.jsonl"
        content = path.read_bytes()
        path.write_bytes(content.replace(b"entry 250", b"ENTRY 250"))
        event = await found.until("edited")
    assert event.line == 251
    assert event.offset == content.index(line(user("entry 250")).replace(b": ", b":").replace(b", ", b",")[:-1])


async def test_a_long_file_is_placed_once_it_was_read(transcripts: Transcripts, directory: Path) -> None:
    """It is looked at in a thread, and the audit has read it before."""
    await transcripts.append("a", *[user("x" * 1000 + str(number)) for number in range(3000)])
    path = directory / "a.jsonl"
    async with found_by(transcripts) as found:
        await found.monitor.audit()
        await transcripts.append("a", user("more"))
        await found.monitor.scan()
        append(path)
        event = await found.next()
        assert (event.kind, event.line) == ("appended", 3002)
        with path.open("r+b") as file:
            file.seek(path.read_bytes().index(b"x2000"))
            file.write(b"y")
        assert (await found.next()).line == 2001


@pytest.mark.parametrize("touch", [chmod, touch_it, hard_link, read_it, write_the_same])
async def test_a_change_that_leaves_the_content_is_not_told(
    transcripts: Transcripts, directory: Path, touch: Edit
) -> None:
    """Unless somebody looks in between, as a file written anew is empty for a moment; that is settled."""
    await transcripts.append("a", user("first"))
    async with found_by(transcripts, watcher=deaf) as found:
        touch(directory / "a.jsonl")
        await found.nothing()


async def test_owned_writes_of_all_kinds_are_not_told(make: Make, directory: Path) -> None:
    """Appends, turns, compactions, going back, deletion, and a new transcript under the deleted one's name."""
    transcripts = make()
    async with found_by(transcripts) as found:
        for token in range(1, 6):
            async with make().open("a", token=token) as transcript:
                fence = transcript.fence
                await transcript.append(user("question"), user("again"))
                async with transcript.released() as prompt:
                    await make().append("a", user("peer"))
                    prompt.stage(user("reply"))
                await transcript.rollback(fence)
                await transcript.append(user("first"))
                path = path_of(transcript)

                async def compact(path: Path = path) -> None:
                    path.write_bytes(line(user("half")))
                    await found.monitor.scan()  # it sees the file in the middle
                    path.write_bytes(line(user("summary")))
                    await found.monitor.scan()

                await transcript.owned_write_async(compact, validate=lambda _, text: "summary" in text, rewrite=True)
            await found.nothing()
        await transcripts.delete("a")
        await found.nothing()
        await transcripts.append("a", user("anew"))
        await found.nothing()
        await found.monitor.audit()
        assert found.monitor.statistics().found == 0
        assert found.monitor.statistics().files == 1


async def test_a_third_party_that_is_refused_is_told(make: Make, directory: Path) -> None:
    """What it has written is nobody's, although the lock is held."""
    async with found_by(make()) as found:
        with pytest.raises(Exception, match="by somebody who does not own it"):
            async with make().open("a") as transcript:
                await transcript.append(user("first"))
                path = path_of(transcript)
                transcript.owned_write(lambda: path.write_bytes(b"{}\n"), validate=lambda _, text: False, rewrite=True)
        assert (await found.next()).path == str(path)


async def test_an_edit_while_the_lock_is_held_is_told(make: Make) -> None:
    """Holding the lock is not ownership."""
    async with found_by(make()) as found:
        with pytest.raises(Exception, match="by somebody who does not own it"):
            async with make().open("a") as transcript:
                await transcript.append(user("first"))
                append(path_of(transcript))
                assert (await found.next()).kind == "appended"


async def test_a_finding_is_told_once_until_it_changes_or_is_settled(make: Make, directory: Path) -> None:
    """By a look, a scan, an audit: once. An adoption settles it; then the same is news again."""
    transcripts, path = make(), directory / "a.jsonl"
    await transcripts.append("a", user("first"))
    async with found_by(transcripts) as found:
        append(path)
        assert (await found.next()).line == 2
        touch_it(path)
        await found.nothing()
        await found.monitor.audit()
        await found.nothing()
        append(path)
        assert (await found.next()).line == 2
        async with make().open("a") as transcript:
            await transcript.append(user("owned again"))
        await found.nothing()
        append(path)
        assert (await found.next()).line == 5
        adopt(path)
        await found.nothing()
        edit_in_place(path)
        assert (await found.next()).line == 1
        assert found.monitor.statistics().found == 4


async def test_a_settlement_that_no_event_told_of_is_seen_by_the_scan(make: Make, directory: Path) -> None:
    """Only the journal has changed."""
    path = directory / "a.jsonl"
    await make().append("a", user("first"))
    async with found_by(make(), watcher=deaf) as found:
        for _ in range(2):
            append(path)
            await found.monitor.scan()
            assert (await found.next()).kind == "appended"
            adopt(path)
            await found.nothing()


async def test_an_operator_who_cuts_and_adopts_is_not_told_of(make: Make, directory: Path) -> None:
    """What stood there before is; what repair makes of it is owned."""
    path = directory / "a.jsonl"
    await make().append("a", user("first"))
    async with found_by(make()) as found:
        with path.open("ab") as file:
            file.write(b'{"half')
        assert (await found.next()).kind == "appended"
        cut_tail(path)
        await found.nothing()


async def test_what_was_edited_before_it_was_opened_is_told(make: Make, directory: Path) -> None:
    """As `turnlane verify` would, and files without a journal as unknown."""
    await make().append("a", user("first"))
    append(directory / "a.jsonl")
    (directory / "b.jsonl").write_bytes(line(user("from elsewhere")))
    async with found_by(make()) as found:
        events = [await found.next() for _ in "ab"]
        assert {(event.path, event.kind, event.session_id) for event in events} == {
            (str(directory / "a.jsonl"), "appended", "a"),
            (str(directory / "b.jsonl"), "unknown", None),
        }
        async with make().open("b"):
            await found.nothing()


async def test_a_store_through_an_old_mapping_is_found_by_the_audit(transcripts: Transcripts, directory: Path) -> None:
    """It leaves the fingerprint as it was; it is told once, and stays known until it is settled."""
    path = directory / "a.jsonl"
    await transcripts.append("a", user("first"), user("second"))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        at = mapping.find(b"second")
        mapping[at : at + 6] = b"second"  # the page is dirty and writable from here on
        await transcripts.append("a", user("third"))
        async with found_by(transcripts) as found:
            before = path.stat()
            mapping[at : at + 6] = b"SECOND"
            assert path.stat().st_mtime_ns == before.st_mtime_ns
            await found.nothing()
            await found.monitor.audit()
            event = await found.next()
            assert (event.kind, event.line) == ("edited", 2)
            await found.nothing()
            await found.monitor.audit()
            assert found.monitor.statistics().found == 1


async def test_sidecars_and_other_files_are_no_transcripts(make: Make, directory: Path) -> None:
    """Journals, salvage, tombstones, what has another suffix, directories."""
    await make().append("a", user("first"))
    async with found_by(make()) as found:
        for name in ("a.salvage.jsonl", "a.1.tombstone.jsonl", "notes.txt", "x.jsonl.swp", ".x.jsonl.tmp"):
            (directory / name).write_bytes(b"{}\n")
        (directory / "below.jsonl").mkdir()
        await found.nothing()
        assert found.monitor.statistics().files == 1


async def test_listeners_may_be_async(transcripts: Transcripts, directory: Path) -> None:
    """The hooks of the transcripts are told; nobody need iterate."""
    told: asyncio.Queue[UnownedEditFound] = asyncio.Queue()
    transcripts.hooks.on(UnownedEditFound, told.put)
    await transcripts.append("a", user("first"))
    async with TranscriptMonitor(transcripts):
        append(directory / "a.jsonl")
        async with asyncio.timeout(10):
            assert (await told.get()).kind == "appended"
    await transcripts.hooks.aclose()


async def test_nothing_but_a_thousand_findings_is_kept_for_whoever_iterates(tmp_path: Path) -> None:
    """The oldest are dropped, and counted."""
    for number in range(1005):
        (tmp_path / f"{number}.jsonl").write_bytes(b"{}\n")
    async with TranscriptMonitor(Transcripts(tmp_path), watcher=deaf) as monitor:
        await monitor.scan()
        statistics = monitor.statistics()
        assert (statistics.found, statistics.dropped, statistics.files) == (1005, 5, 1005)


@pytest.mark.parametrize(
    "settings",
    [
        {"on_unowned_edit": "stop"},
        {"scan_every": 0},
        {"audit_every": -1},
        {"appends": True},
        {"recursive": True},
        {"hooks": Hooks()},
        {"state_dir": "x"},
    ],
)
def test_wrong_arguments_are_refused(transcripts: Transcripts, settings: dict[str, object]) -> None:
    """What belongs to directories of other programs does not go with transcripts."""
    with pytest.raises(ValueError, match=r"must be|belong"):
        TranscriptMonitor(transcripts, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["sqlite:///x.db", "one.jsonl"])
def test_only_directories_of_files_can_be_watched(url: str) -> None:
    """No database, and no single file."""
    with pytest.raises(ValueError, match="needs transcripts in a directory"):
        TranscriptMonitor(Transcripts(url))


async def test_transcripts_with_a_state_dir(tmp_path: Path) -> None:
    """Those that were opened are judged by their journals, which are elsewhere; others are of another program."""
    directory, state = tmp_path / "files", tmp_path / "state"
    transcripts = Transcripts(directory, state_dir=state)
    await transcripts.append("a", user("first"))
    (directory / "b.jsonl").write_bytes(line(user("first")))
    async with found_by(transcripts) as found:
        await transcripts.append("a", user("second"))
        append(directory / "b.jsonl")
        await found.nothing()
        append(directory / "a.jsonl")
        assert ((event := await found.next()).kind, event.session_id, event.line) == ("appended", "a", 3)
        edit_in_place(directory / "b.jsonl")
        assert ((event := await found.next()).kind, event.session_id) == ("edited", None)
    async with found_by(directory, state_dir=state) as found:
        assert (await found.next()).session_id == "a"
        await Transcripts(directory, state_dir=state).delete("a")
        await found.nothing()


@pytest.mark.parametrize(("path", "settings"), [("", {}), ("a\0b", {}), ("x", {"on_unowned_edit": "cancel"})])
def test_wrong_paths_are_refused(path: str, settings: dict[str, str]) -> None:
    """And nobody is out on files of other programs."""
    with pytest.raises(ValueError, match="needs"):
        TranscriptMonitor(path, **settings)  # type: ignore[arg-type]
