"""The files that hold locks are opened safely, and on file systems where a lock means something."""

import stat
import sys
from pathlib import Path

import pytest

from support.transcripts_scenes import said, user
from turnlane import file_systems
from turnlane.errors import TranscriptUnavailable
from turnlane.transcripts import Transcripts


async def test_a_link_in_the_place_of_a_journal_is_not_followed(tmp_path: Path) -> None:
    """What it leads to stays as it was, or is not made; the words are salvaged."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"somebody else's")
    directory = tmp_path / "transcripts"
    directory.mkdir()
    for name, target in (("a", elsewhere), ("b", tmp_path / "not there")):
        (directory / f"{name}.jsonl.journal").symlink_to(target)
        with pytest.raises(TranscriptUnavailable, match="symbolic links") as refused:
            await Transcripts(directory).append(name, user("words"))
        assert any(f"{name}.salvage.jsonl" in note for note in refused.value.__notes__)
        assert not (directory / f"{name}.jsonl").exists()
    assert elsewhere.read_bytes() == b"somebody else's"
    assert not (tmp_path / "not there").exists()


async def test_a_journal_is_never_another_file(tmp_path: Path) -> None:
    """Whatever is done with the transcript: a lock on it keeps out everybody. Nothing shortens it but a deletion."""
    transcripts, journal = Transcripts(tmp_path), tmp_path / "a.jsonl.journal"
    await transcripts.append("a", user("first"), user("second"))
    before = journal.stat()
    async with transcripts.open("a") as transcript:
        fence = transcript.fence
        await transcript.append(user("third"))
        await transcript.rollback(fence)
        transcript.owned_write(
            lambda: Path(transcript.path).write_bytes(b'{"content":"all"}\n'), validate=always, rewrite=True
        )
    size = journal.stat().st_size
    assert size >= before.st_size
    async with transcripts.open("a"):
        assert journal.stat().st_size == size
    await transcripts.delete("a")
    await transcripts.append("a", user("anew"))
    after = journal.stat()
    assert (after.st_ino, stat.S_IMODE(after.st_mode)) == (before.st_ino, 0o600)


def always(_: object, __: str) -> bool:
    return True


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
@pytest.mark.parametrize("url", ["{}/files", "{}/files/one.jsonl", "sqlite:///{}/file.db"])
async def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, url: str
) -> None:
    """With its name and what allows it; allowed, it is used like any other."""

    def told(_: str) -> str:
        return kind

    monkeypatch.setattr(file_systems, "file_system_of", told)
    named = url.format(tmp_path)
    session_id = "one"
    async with Transcripts(named) as transcripts:
        with pytest.raises(TranscriptUnavailable, match=f"network file system '{kind}'.* allow_network_fs=True"):
            await transcripts.append(session_id, user("words"))
    async with Transcripts(named, allow_network_fs=True) as transcripts:
        await transcripts.append(session_id, user("words"))
        assert said(await transcripts.read(session_id)) == ["words"]


@pytest.mark.skipif(sys.platform != "linux", reason="where the kernel tells")
def test_the_kernel_is_asked_which_file_system_it_is(tmp_path: Path) -> None:
    """By its own name for it; what can not be told is none of a network."""
    assert file_systems.file_system_of("/proc") == "proc"
    assert file_systems.file_system_of(str(tmp_path)) not in ("", "proc")
    assert file_systems.file_system_of(str(tmp_path / "none")) == ""
