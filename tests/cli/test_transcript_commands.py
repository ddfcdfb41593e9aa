"""`turnlane verify` and `turnlane repair`, as an operator uses them."""

import json
import os
from pathlib import Path

import pytest

from support.transcripts_faults import Faults, FaultyFiles, Killed
from support.transcripts_scenes import EDITS, append_half_a_line, line, said, salvaged_in, user
from turnlane.cli import main
from turnlane.errors import StaleTurn
from turnlane.transcripts import JsonlTranscriptStore, Transcript, Transcripts
from turnlane.transcripts.files import Files
from turnlane.transcripts.names import stem_of


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A transcript with two entries."""
    await Transcripts(tmp_path).append("a", user("first"), user("second"), token=7)
    return tmp_path / "a.jsonl"


def names_in(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


async def test_verify_says_nothing_of_what_is_well(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0; a transcript and its directory are the same here."""
    assert main(["verify", str(path)]) == 0
    assert main(["verify", str(path.parent), str(path)]) == 0
    assert printed(capsys) == [
        "1 transcripts, 1 as their journals say",
        "2 transcripts, 2 as their journals say",
    ]


@pytest.mark.parametrize("name", EDITS)
async def test_verify_names_each_edit_nobody_owns(path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1, `file:line:kind` as the first words of a line, and nothing is written."""
    edit, _ = EDITS[name]
    edit(path)
    journal = path.with_name("a.jsonl.journal").read_bytes()
    assert main(["verify", str(path.parent)]) == 1
    first, *_, last = printed(capsys)
    assert first.startswith(f"{path}:")
    assert first.split(":")[2] in ("appended", "edited", "truncated", "replaced", "deleted")
    assert last == "1 transcripts, 0 as their journals say"
    assert path.with_name("a.jsonl.journal").read_bytes() == journal


async def test_verify_opens_nothing_for_writing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it judges a read-only snapshot too, and files that only somebody else may write."""
    opened, opens = list[int](), os.open

    def recorded(path: str, flags: int, *rest: int) -> int:
        opened.append(flags)
        return opens(path, flags, *rest)

    monkeypatch.setattr(os, "open", recorded)
    assert main(["verify", str(path.parent)]) == 0
    append_half_a_line(path)
    assert main(["verify", str(path)]) == 1
    assert opened
    assert {flags & os.O_ACCMODE for flags in opened} == {os.O_RDONLY}


async def test_one_that_can_not_be_looked_at_hides_no_other(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a finding of its own; named by itself it is an error."""
    (path.parent / "b.jsonl").symlink_to("/dev/zero")
    append_half_a_line(path)
    assert main(["verify", str(path.parent)]) == 1
    lines = printed(capsys)
    assert lines[0].startswith(f"{path}:3:appended")
    assert lines[-2].startswith(f"{path.parent}/b.jsonl:1:unreadable: ")
    assert main(["verify", str(path.parent / "b.jsonl")]) == 2


async def test_verify_as_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line."""
    append_half_a_line(path)
    assert main(["--json", "verify", str(path)]) == 1
    (text,) = printed(capsys)
    assert json.loads(text) == {
        "path": str(path),
        "session_id": "a",
        "entries": None,
        "version": 2,
        "token": 7,
        "well": False,
        "findings": [{"line": 3, "kind": "appended"}, {"line": 3, "kind": "corrupt"}],
        "advice": None,
    }


async def test_verify_knows_files_without_a_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody owns them yet."""
    (tmp_path / "b.jsonl").write_bytes(line(user("from elsewhere")))
    assert main(["verify", str(tmp_path)]) == 1
    assert printed(capsys)[0].startswith(f"{tmp_path / 'b.jsonl'}:1:unknown: 1 lines, ")
    assert names_in(tmp_path) == ["b.jsonl"]


MISPLACED = {
    "Foo.jsonl": f"'Foo' has {stem_of('Foo')}.jsonl: rename or remove it",
    "a b.jsonl": f"'a b' has {stem_of('a b')}.jsonl: rename or remove it",
    f"{stem_of('Foo')}.jsonl": "it is adopted when that session is opened",
}


@pytest.mark.parametrize("name", MISPLACED)
async def test_a_name_that_tells_no_session(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Verify says what to do about it, and so does repair, which can do nothing; done, all is well."""
    path, advice = tmp_path / name, MISPLACED[name]
    rewrite(path)
    assert main(["verify", str(tmp_path)]) == 1
    assert printed(capsys)[0].endswith(advice)
    assert main(["--json", "verify", str(tmp_path)]) == 1
    assert json.loads(capsys.readouterr().out)["advice"].endswith(advice)
    for what in (["--adopt"], ["--cut-tail"], ["--token", "7"]):
        assert main(["repair", *what, str(path)]) == 2
        assert capsys.readouterr().err.endswith(f"{advice}\n")
    assert names_in(tmp_path) == [name]
    session_id = name.removesuffix(".jsonl").partition("~")[0].replace("foo", "Foo")
    path.rename(tmp_path / f"{stem_of(session_id)}.jsonl")
    async with Transcripts(tmp_path).open(session_id) as transcript:
        assert said(transcript.entries) == ["first"]
    assert main(["verify", str(tmp_path)]) == 0


@pytest.mark.parametrize("what", [["--adopt"], ["--cut-tail"], ["--token", "7"]])
async def test_a_directory_is_not_settled(path: Path, what: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Repair is for one transcript, and does not advise to remove all of them."""
    assert main(["repair", *what, str(path.parent)]) == 2
    assert capsys.readouterr().err.endswith("it is a directory; name one transcript in it\n")


def test_a_file_of_another_kind_is_not_settled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its name is no transcript's; with a `state_dir`, where files belong to other programs, any name will do."""
    path = tmp_path / "a.txt"
    rewrite(path)
    assert main(["repair", "--adopt", str(path)]) == 2
    assert "its name does not end in .jsonl: rename or remove it" in capsys.readouterr().err
    (tmp_path / "state").mkdir()
    assert main(["repair", "--adopt", str(path), "--state-dir", str(tmp_path / "state")]) == 0


async def test_verify_tells_of_a_write_that_was_not_ended(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The next one to write settles it, and then all is well."""
    for number in range(20):
        faults = Faults(number, "kill", halves=True)
        with pytest.raises(Killed):
            await Transcripts(JsonlTranscriptStore(path.parent, files=FaultyFiles(faults))).append("a", user("torn"))
        if faults.names[-1] == "append":
            break
    assert main(["verify", str(path)]) == 1
    assert f"{path}:1:unfinished" in capsys.readouterr().out
    await Transcripts(path.parent).append("a", user("next"))
    assert main(["verify", str(path)]) == 0


@pytest.mark.parametrize("ends", [True, False])
async def test_verify_does_not_judge_what_is_being_written(
    path: Path, ends: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A third party's write goes on for long: status 3 and `busy`, and 1 once somebody who began one has died."""
    assert main(["verify", str(path)]) == 0
    async with Transcripts(path.parent).open("a") as transcript:

        async def compact() -> None:
            append_half_a_line(path)
            assert main(["verify", str(path.parent)]) == 3
            beside = path.with_name("b.jsonl")
            rewrite(beside)
            assert main(["--json", "verify", str(path.parent)]) == 1
            beside.unlink()
            if not ends:
                died(transcript)
                assert main(["verify", str(path)]) == 1
            rewrite(path)

        await transcript.owned_write_async(compact, validate=always, rewrite=True)
    assert main(["verify", str(path)]) == 0
    busy, summary, about_a, about_b, *later = printed(capsys)[1:]
    assert busy == f"{path}:1:busy: an owned write goes on, so it is not judged; look again when that has ended"
    assert summary == "1 transcripts, 0 as their journals say, 1 being written"
    assert json.loads(about_a)["findings"] == [{"line": 1, "kind": "busy"}]
    assert json.loads(about_b)["findings"] == [{"line": 1, "kind": "unknown"}]
    assert later[:-1] == [] if ends else later[0].startswith(f"{path}:3:appended")


def always(_: object, __: str) -> bool:
    return True


def rewrite(path: Path) -> None:
    path.write_bytes(line(user("first")))


def died(transcript: Transcript) -> None:
    """Let its lock go, as the kernel does when a process ends."""
    transcript._handle.unlock_nowait()  # pyright: ignore[reportPrivateUsage]


async def test_a_long_append_is_being_written_too(path: Path) -> None:
    """Its intent is in the journal: unfinished only once nobody has the lock."""
    told: list[int] = []

    class Looking(Files):
        def append(self, fd: int, content: bytes) -> None:
            told.append(main(["verify", str(path)]))
            super().append(fd, content)

    await Transcripts(JsonlTranscriptStore(path.parent, files=Looking())).append("a", user("third"))
    assert told == [3]
    assert main(["verify", str(path)]) == 0


@pytest.mark.parametrize("command", [["verify"], ["repair", "--adopt"]])
def test_what_is_not_there_is_an_error(tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2 and one line."""
    assert main([*command, str(tmp_path / "none.jsonl")]) == 2
    assert "there is no such transcript" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


async def test_repair_adopts_what_somebody_wrote(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From then on it is owned: peers append to it again."""
    EDITS["append"][0](path)
    assert main(["repair", "--adopt", str(path)]) == 0
    assert printed(capsys) == [f"{path}: adopted what was appended", f"{path}: 3 entries"]
    assert main(["verify", str(path)]) == 0
    await Transcripts(path.parent).append("a", user("next"))
    assert said(await Transcripts(path.parent).read("a")) == ["first", "second", "by hand", "next"]


async def test_repair_cuts_half_a_line_into_the_salvage(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it cuts is kept; without it, a line that is no entry is not adopted."""
    append_half_a_line(path)
    assert main(["repair", "--adopt", str(path)]) == 2
    assert f"{path}:3 is not an entry" in capsys.readouterr().err
    assert main(["--json", "repair", "--cut-tail", "--adopt", str(path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["entries"], report["salvaged"]) == (2, str(path.with_name("a.salvage.jsonl")))
    assert salvaged_in(path.parent) == []
    assert b"eyJyb2xlIjogInVz" in path.with_name("a.salvage.jsonl").read_bytes()
    assert main(["verify", str(path)]) == 0


async def test_repair_sets_the_token(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also to a lower one, after the store that gives them was lost."""
    with pytest.raises(StaleTurn):
        await Transcripts(path.parent).append("a", user("stale"), token=3)
    assert main(["repair", "--token", "2", str(path)]) == 0
    assert f"{path}: the highest token was 7" in capsys.readouterr().out
    await Transcripts(path.parent).append("a", user("welcome"), token=3)


@pytest.mark.parametrize("arguments", [["repair", "x"], ["verify"], ["repair", "--token", "-1", "x"]])
def test_wrong_arguments_are_told(arguments: list[str]) -> None:
    """Status 2; repair does nothing by itself."""
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["verify", ""], "PATH"),
        (["verify", "x", ""], "PATH"),
        (["verify", "x", "--state-dir", ""], "--state-dir"),
        (["repair", "--adopt", ""], "PATH"),
        (["watch", ""], "DIR"),
        (["demo", "--directory", ""], "--directory"),
    ],
)
def test_an_empty_path_is_not_the_current_directory(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, and which argument it is."""
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert f"argument {named}: the path is empty; say . for the current directory" in capsys.readouterr().err


async def test_repair_waits_for_nobody_for_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a turn has the lock it is told busy, and nothing is done."""
    monkeypatch.setattr("turnlane.cli.transcripts.adopt.__kwdefaults__", {"timeout": 0.0})
    async with Transcripts(path.parent).open("a"):
        assert main(["repair", "--adopt", str(path)]) == 2
