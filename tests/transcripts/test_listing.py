"""Which transcripts of a directory are not as they were."""

from pathlib import Path

import pytest

from support.transcripts_scenes import append, line, user
from turnlane.transcripts.fingerprint import Fingerprint
from turnlane.transcripts.listing import differing, transcript_named


def known(directory: Path) -> dict[str, Fingerprint | None]:
    """What a monitor knows that has looked at everything."""
    found: dict[str, Fingerprint | None] = {}
    for path in differing(str(directory), {}, recursive=True):
        found[path] = Fingerprint.of(Path(path).lstat()) if Path(path).exists() else None
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two transcripts, the journal of one that is gone, and what is beside them."""
    for name in ("a.jsonl", "b.jsonl", "b.jsonl.journal", "gone.jsonl.journal", "b.salvage.jsonl", "note.txt"):
        (tmp_path / name).write_bytes(line(user("first")))
    return tmp_path


def test_what_nobody_knows_is_listed(directory: Path) -> None:
    """Each transcript once, with a journal or not; nothing else."""
    assert sorted(differing(str(directory), {}, recursive=False)) == [
        str(directory / name) for name in ("a.jsonl", "b.jsonl", "gone.jsonl")
    ]


def test_what_is_as_it_was_is_not_listed(directory: Path) -> None:
    """Nor is one that was gone and still is, with its journal or without."""
    before = known(directory)
    assert len(before) == 3
    assert differing(str(directory), before, recursive=True) == {}
    (directory / "gone.jsonl.journal").unlink()
    assert differing(str(directory), before, recursive=True) == {}


@pytest.mark.parametrize("with_journal", [True, False])
def test_what_has_changed_is_listed(directory: Path, with_journal: bool) -> None:
    """Appended to, deleted, made a directory, or there again."""
    path = directory / ("b.jsonl" if with_journal else "a.jsonl")
    before = known(directory)
    append(path)
    assert differing(str(directory), before, recursive=False) == {str(path): None}
    path.unlink()
    assert differing(str(directory), before, recursive=False) == {str(path): None}
    path.mkdir()
    assert differing(str(directory), before, recursive=False) == {str(path): None}
    before[str(path)] = None
    path.rmdir()
    path.write_bytes(b"")
    assert differing(str(directory), before, recursive=False) == {str(path): None}


def test_directories_below_it_are_listed_if_asked_for(directory: Path) -> None:
    """At any depth; what is known of them is gone with them."""
    deep = directory / "below" / "deep"
    deep.mkdir(parents=True)
    (deep / "c.jsonl").write_bytes(line(user("first")))
    assert str(deep / "c.jsonl") not in differing(str(directory), {}, recursive=False)
    before = known(directory)
    assert str(deep / "c.jsonl") in before
    (deep / "c.jsonl").unlink()
    deep.rmdir()
    assert differing(str(directory), before, recursive=True) == {str(deep / "c.jsonl"): None}


def test_without_the_directory_everything_is_gone(directory: Path) -> None:
    """What was known to be there."""
    before = known(directory)
    assert list(differing(str(directory / "none"), before, recursive=False)) == [
        path for path, fingerprint in before.items() if fingerprint is not None
    ]


@pytest.mark.parametrize(
    ("changed", "transcript"),
    [
        ("/d/a.jsonl", "/d/a.jsonl"),
        ("/d/a.jsonl.journal", "/d/a.jsonl"),
        ("/d/a.salvage.jsonl", None),
        ("/d/a.txt", None),
    ],
)
def test_a_changed_file_names_its_transcript(changed: str, transcript: str | None) -> None:
    """Files beside it name none."""
    assert transcript_named(changed) == transcript
