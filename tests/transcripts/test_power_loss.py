"""A machine that starts anew with a file whose last bytes never reached the disk: told as a lost tail, not an edit."""

import base64
import json
import os
from pathlib import Path

import pytest

from support.transcripts_scenes import said, user
from turnlane.errors import TranscriptTakeover
from turnlane.hooks import Hooks, TailLost, TranscriptAdopted
from turnlane.transcripts import Transcripts, jsonl
from turnlane.transcripts.inspection import inspect

ZEROS = b"\0" * 700


class Machine:
    """Transcripts of a machine that can start anew, and what they told."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = directory / "a.jsonl"
        self.hooks = Hooks()
        self.lost: list[TailLost] = []
        self.adopted: list[TranscriptAdopted] = []
        self.hooks.on(TailLost, self.lost.append)
        self.hooks.on(TranscriptAdopted, self.adopted.append)
        self._directory = directory
        self._monkeypatch = monkeypatch
        self._boots = 0
        self.start()

    def start(self) -> None:
        """Start anew."""
        self._boots += 1
        boot = bytes([self._boots]) * 16
        self._monkeypatch.setattr(jsonl, "boot_of", lambda: boot)
        self.transcripts = Transcripts(self._directory, hooks=self.hooks)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


async def three_appends(machine: Machine) -> list[int]:
    """Store "one", "two" with "three", and "four"; return how long the file was after each."""
    sizes: list[int] = []
    for texts in (["one"], ["two", "three"], ["four"]):
        await machine.transcripts.append("a", *map(user, texts), token=5)
        sizes.append(machine.path.stat().st_size)
    return sizes


@pytest.mark.parametrize("at_open", ["flag", "raise"])
@pytest.mark.parametrize("zeros", [b"", ZEROS], ids=["cut", "zeros"])
async def test_cut_off_at_each_byte_the_last_whole_write_stays(machine: Machine, at_open: str, zeros: bytes) -> None:
    """What is left of the next one goes to the salvage; the loss is told once, and nothing is adopted."""
    sizes = await three_appends(machine)
    content = machine.path.read_bytes()
    journal = machine.path.with_name("a.jsonl.journal").read_bytes()
    for length in range(sizes[-1] - (not zeros), -1, -1):
        machine.path.write_bytes(content[:length] + zeros)
        machine.path.with_name("a.jsonl.journal").write_bytes(journal)
        machine.path.with_name("a.salvage.jsonl").unlink(missing_ok=True)
        machine.lost.clear()
        machine.start()
        transcripts = machine.transcripts
        async with transcripts.open("a", at_open=at_open, token=6) as transcript:  # type: ignore[arg-type]
            texts = said(transcript.entries)
            await transcript.append(user("next"))
        whole = sum(size <= length for size in sizes)
        assert texts == ["one", "two", "three", "four"][: (0, 1, 3, 4)[whole]]
        [told] = machine.lost
        assert (told.kept, told.lost) == (len(texts), 4 - len(texts))
        assert machine.adopted == []
        rest = content[([0, *sizes])[whole] : length]
        assert _salvaged(machine.path) == rest.strip(b"\n")
        assert inspect(machine.path).is_well
        async with transcripts.open("a", at_open="raise") as transcript:
            assert said(transcript.entries) == [*texts, "next"]
        assert len(machine.lost) == 1


def _salvaged(path: Path) -> bytes:
    salvage = path.with_name("a.salvage.jsonl")
    if not salvage.exists():
        return b""
    [document] = [json.loads(line) for line in salvage.read_text(encoding="utf-8").splitlines()]
    kept = [base64.b64decode(part) for part in document.get("bytes", ())]
    kept += [json.dumps(entry, separators=(",", ":")).encode() for entry in document.get("entries", ())]
    return b"\n".join(kept).replace(b"\0", b"").strip(b"\n")


async def test_a_short_append_finds_it_too(machine: Machine) -> None:
    """It does not read the content of what it finds unchanged, but this is not."""
    sizes = await three_appends(machine)
    os.truncate(machine.path, sizes[-1] - 3)
    machine.start()
    await machine.transcripts.append("a", user("next"))
    assert said(await machine.transcripts.read("a")) == ["one", "two", "three", "next"]
    assert [event.lost for event in machine.lost] == [1]


async def test_nothing_lost_is_nothing_told(machine: Machine) -> None:
    """A machine that starts anew is no reason to read each time."""
    await three_appends(machine)
    machine.start()
    for _ in range(2):
        async with machine.transcripts.open("a", at_open="raise") as transcript:
            assert len(transcript.entries) == 4
    assert (machine.lost, machine.adopted) == ([], [])


async def test_the_same_without_a_new_start_is_an_edit(machine: Machine) -> None:
    """Nothing but a power loss takes what the kernel has."""
    sizes = await three_appends(machine)
    os.truncate(machine.path, sizes[-1] - 3)
    with pytest.raises(TranscriptTakeover):
        async with machine.transcripts.open("a", at_open="raise"):
            pass
    assert machine.lost == []


@pytest.mark.parametrize("edit", ["in place", "appended", "deleted"])
async def test_an_edit_before_the_next_start_is_an_edit(machine: Machine, edit: str) -> None:
    """It is not explained by what never reached the disk; nothing is cut off."""
    await three_appends(machine)
    if edit == "deleted":
        machine.path.unlink()
    else:
        content = machine.path.read_bytes()
        changed = content.replace(b"three", b"THREE") if edit == "in place" else content + b'{"content":"five"}\n'
        machine.path.write_bytes(changed)
    machine.start()
    with pytest.raises(TranscriptTakeover):
        async with machine.transcripts.open("a", at_open="raise"):
            pass
    async with machine.transcripts.open("a") as transcript:
        texts = said(transcript.entries)
    expected = {"in place": ["one", "two", "THREE", "four"], "appended": ["one", "two", "three", "four", "five"]}
    assert texts == expected.get(edit, [])
    assert machine.lost == []
    assert len(machine.adopted) == 1


async def test_more_than_is_remembered_can_not_be_told_from_an_edit(machine: Machine) -> None:
    """Then it is flagged and adopted, with all that is there."""
    for number in range(60):
        await machine.transcripts.append("a", user(str(number)))
    lines = machine.path.read_bytes().splitlines(keepends=True)
    machine.path.write_bytes(b"".join(lines[:2]))
    machine.start()
    async with machine.transcripts.open("a") as transcript:
        assert said(transcript.entries) == ["0", "1"]
    assert [event.kind for event in machine.adopted] == ["edited"]
    assert machine.lost == []


async def test_a_journal_that_names_no_boot_recovers_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the machine does not tell when it started, a short file is an edit."""
    sizes = await three_appends(machine)
    os.truncate(machine.path, sizes[-1] - 3)
    monkeypatch.setattr(jsonl, "boot_of", lambda: bytes(16))
    with pytest.raises(TranscriptTakeover):
        async with Transcripts(tmp_path).open("a", at_open="raise"):
            pass
