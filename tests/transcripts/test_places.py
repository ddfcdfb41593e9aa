"""Where transcripts are: a directory, one file, and files of other programs with everything else apart from them."""

import os
from pathlib import Path

import pytest

from support.transcripts_scenes import said, salvaged_in, user
from turnlane.errors import StaleTurn, TranscriptCorrupt, TranscriptTakeover
from turnlane.transcripts import Transcripts
from turnlane.transcripts.inspection import inspect, transcripts_at
from turnlane.transcripts.settling import adopt


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A directory of another program, with one transcript."""
    directory = tmp_path / "theirs"
    directory.mkdir()
    (directory / "a.jsonl").write_bytes(b'{"content":"first"}\n')
    return directory


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_nothing_but_entries_is_written_into_a_directory_of_others(theirs: Path, tmp_path: Path) -> None:
    """Journals, salvage and tombstones are in `state_dir`."""
    state = tmp_path / "state"
    transcripts = Transcripts(theirs, state_dir=state)
    async with transcripts.open("a", token=7) as transcript:
        assert said(transcript.entries) == ["first"]
        async with transcript.released() as prompt:
            await transcripts.append("b", user("other"))
            prompt.stage(user("reply"))
    with pytest.raises(StaleTurn):
        await transcripts.append("a", user("stale"), token=6)
    assert names(theirs) == ["a.jsonl", "b.jsonl"]
    assert salvaged_in(state) == ["stale"]
    assert await transcripts.list() == ("a", "b")
    await transcripts.delete("a")
    assert names(theirs) == ["b.jsonl"]
    assert len(list(state.glob("*.tombstone.jsonl"))) == 1
    assert await transcripts.list() == ("b",)


async def test_reading_leaves_nothing_in_a_directory_of_others(theirs: Path, tmp_path: Path) -> None:
    """Whatever is read, with half an entry at its end too; no lock is made for it."""
    transcripts = Transcripts(theirs)
    assert said(await transcripts.read("a")) == ["first"]
    with (theirs / "a.jsonl").open("ab") as file:
        file.write(b'{"content":"sec')
    with pytest.raises(TranscriptCorrupt):
        await transcripts.read("a")
    assert await transcripts.read("b") == ()
    assert names(theirs) == ["a.jsonl"]


async def test_two_directories_share_one_state_dir(theirs: Path, tmp_path: Path) -> None:
    """Names in it are made of the whole path; each sweeps its own."""
    state, others = tmp_path / "state", tmp_path / "others"
    one, two = Transcripts(theirs, state_dir=state), Transcripts(others, state_dir=state, retain_days=0)
    await two.append("a", user("of the others"))
    async with one.open("a") as transcript:
        assert said(transcript.entries) == ["first"]
    assert said(await two.read("a")) == ["of the others"]
    await one.delete("a")
    assert await two.sweep() == 0
    await two.delete("a")
    assert await two.sweep() == 1
    assert len(list(state.glob("*.tombstone.jsonl"))) == 1


async def test_the_same_place_by_another_path_is_the_same(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a link, or relative: the lock and the journal are the same ones."""
    state = tmp_path / "state"
    (tmp_path / "link").symlink_to(theirs)
    async with Transcripts(theirs, state_dir=state).open("a"):
        pass
    monkeypatch.chdir(tmp_path)
    for place in ("link", "theirs", "./theirs/"):
        async with Transcripts(place, state_dir="state", at_open="raise").open("a") as transcript:
            await transcript.append(user(place))
    assert said(await Transcripts(theirs).read("a")) == ["first", "link", "theirs", "./theirs/"]
    assert len(list(state.glob("*.journal"))) == 1


@pytest.mark.parametrize("apart", [False, True], ids=["beside", "apart"])
@pytest.mark.parametrize("name", ["Session One.jsonl", "history.log"])
async def test_one_file_of_any_name(tmp_path: Path, name: str, apart: bool) -> None:
    """Its session has the id that is its name; there is no other."""
    path = tmp_path / "here" / name
    path.parent.mkdir()
    path.write_bytes(b'{"content":"first"}\n')
    transcripts = Transcripts(path, state_dir=tmp_path / "state" if apart else None)
    session_id = name.removesuffix(".jsonl")
    async with transcripts.open(session_id) as transcript:
        assert transcript.path == str(path)
        await transcript.append(user("second"))
    await transcripts.append(session_id, user("third"))
    assert said(await transcripts.read(session_id)) == ["first", "second", "third"]
    assert await transcripts.list() == (session_id,)
    with pytest.raises(ValueError, match="is the transcript of session"):
        await transcripts.read("another")
    assert (names(path.parent) == [name]) is apart


async def test_a_file_that_is_not_there_yet_is_known_by_its_suffix(tmp_path: Path) -> None:
    """A path that ends in `.jsonl` is a file unless it is a directory."""
    transcripts = Transcripts(f"file://{tmp_path}/new.jsonl")
    assert await transcripts.list() == ()
    await transcripts.append("new", user("one"))
    assert said(await transcripts.read("new")) == ["one"]
    (tmp_path / "odd.jsonl").mkdir()
    await Transcripts(tmp_path / "odd.jsonl").append("a", user("inside"))
    assert (tmp_path / "odd.jsonl" / "a.jsonl").exists()


async def test_a_relative_file_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a directory before its name."""
    monkeypatch.chdir(tmp_path)
    transcripts = Transcripts("x.jsonl")
    await transcripts.append("x", user("one"))
    assert await transcripts.list() == ("x",)
    await transcripts.delete("x")
    assert await transcripts.list() == ()
    assert await transcripts.sweep() == 0


async def test_the_error_names_the_command_with_the_state_dir(theirs: Path, tmp_path: Path) -> None:
    """And that settles it."""
    state = tmp_path / "a state"
    transcripts = Transcripts(theirs, state_dir=state, at_open="raise")
    with pytest.raises(TranscriptTakeover) as refused:
        async with transcripts.open("a"):
            pass
    assert refused.value.remedy == f"turnlane repair --adopt {theirs}/a.jsonl --state-dir '{state}'"
    assert str(refused.value).endswith(refused.value.remedy)
    assert transcripts_at(theirs, state_dir=state) == (theirs / "a.jsonl",)
    finding = inspect(theirs / "a.jsonl", state_dir=state).finding
    assert finding is not None
    adopt(theirs / "a.jsonl", state_dir=state)
    assert inspect(theirs / "a.jsonl", state_dir=state).is_well
    async with transcripts.open("a") as transcript:
        assert said(transcript.entries) == ["first"]
    assert names(theirs) == ["a.jsonl"]


@pytest.mark.parametrize("place", ["", "a\0b"])
def test_a_path_that_is_none(place: str, tmp_path: Path) -> None:
    """Named in the error, the state directory too."""
    with pytest.raises(ValueError, match="need a directory or a file"):
        Transcripts(place)
    with pytest.raises(ValueError, match="need a directory or a file"):
        Transcripts(tmp_path, state_dir=place)


async def test_a_file_no_id_leads_to_is_not_listed(tmp_path: Path) -> None:
    """A name that no session id has in a directory is none of its transcripts."""
    transcripts = Transcripts(tmp_path)
    await transcripts.append("a", user("one"))
    (tmp_path / "Upper.jsonl").write_bytes(b"{}\n")
    (tmp_path / "put-there.jsonl").write_bytes(b"{}\n")
    assert await transcripts.list() == ("a", "put-there")
    os.unlink(tmp_path / "a.jsonl.journal")
    assert await transcripts.list() == ("a", "put-there")


async def test_a_process_that_goes_elsewhere_keeps_its_transcripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is one from where it was."""
    monkeypatch.chdir(tmp_path)
    transcripts = Transcripts("here", state_dir="state")
    (tmp_path / "elsewhere").mkdir()
    async with transcripts.open("a") as transcript, transcript.released() as prompt:
        monkeypatch.chdir(tmp_path / "elsewhere")
        prompt.stage(user("reply"))
    assert said(await Transcripts(tmp_path / "here").read("a")) == ["reply"]
    assert names(tmp_path / "elsewhere") == []
