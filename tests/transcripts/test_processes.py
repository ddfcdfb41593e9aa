"""Several processes on one directory, some of them killed."""

# Blocks that raise are left in the middle.
# pyright: reportPossiblyUnboundVariable=false

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

from support.transcripts_scenes import EDITS, path_of, said, salvaged_in, user
from turnlane.errors import TranscriptTakeover
from turnlane.hooks import Hooks, TranscriptAdopted
from turnlane.transcripts import Transcripts

pytestmark = pytest.mark.timeout(120)
WORKER = Path(__file__).with_name("process_worker.py")


class Processes:
    """Workers that are killed at the latest when the test ends."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[subprocess.Popen[str]] = []

    def start(self, name: str, count: int, kind: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, str(WORKER), str(self.directory), name, str(count), kind],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def processes(tmp_path: Path) -> Generator[Processes, None, None]:
    """Starts workers on the directory of this test."""
    processes = Processes(tmp_path)
    yield processes
    processes.close()


def lines_of(worker: "subprocess.Popen[str]", count: int) -> str:
    """Return what a worker prints first."""
    assert worker.stdout is not None
    return "".join(worker.stdout.readline() for _ in range(count))


async def test_two_processes_append_in_turns_and_both_fences_accept(processes: Processes, tmp_path: Path) -> None:
    """And so does the fence of a turn that is out all the while."""
    transcripts = Transcripts(tmp_path)
    async with transcripts.open("shared") as transcript:
        async with transcript.released() as prompt:
            workers = [processes.start(name, 25, kind) for name, kind in (("one", "append"), ("two", "turn"))]
            printed = [await asyncio.to_thread(worker.communicate) for worker in workers]
            prompt.stage(user("reply"))
        told = [text for out, _ in printed for text in out.split("\n") if text]
        assert len(told) == 50
        assert sorted(said(prompt.changes)) == sorted(told)
    for name in ("one", "two"):
        assert [text for text in said(await transcripts.read("shared")) if text.startswith(name)] == [
            f"{name}-{number}" for number in range(25)
        ]


async def test_an_edit_by_hand_during_a_release_stops_every_process(processes: Processes, tmp_path: Path) -> None:
    """Who is out is refused, and so is a peer in another process; nothing of either is lost."""
    transcripts = Transcripts(tmp_path)
    with pytest.raises(TranscriptTakeover):
        async with transcripts.open("shared") as transcript:
            await transcript.append(user("first"), user("second"))
            async with transcript.released() as prompt:
                prompt.stage(user("reply"))
                EDITS["edit in place"][0](path_of(transcript))
                out, _ = await asyncio.to_thread(processes.start("peer", 1, "append").communicate)
    assert out.startswith("refused peer-0 TranscriptTakeover")
    assert sorted(salvaged_in(tmp_path)) == ["peer-0", "reply"]


@pytest.mark.parametrize("name", ["append", "swap two lines", "truncate", "replace by rename"])
async def test_an_edit_by_hand_while_no_process_runs(processes: Processes, tmp_path: Path, name: str) -> None:
    """The process that wrote it has ended: the next one refuses it, or is told of it and adopts it, and goes on."""
    out, _ = await asyncio.to_thread(processes.start("gone", 3, "turn").communicate)
    assert out.split() == ["gone-0", "gone-1", "gone-2"]
    EDITS[name][0](tmp_path / "shared.jsonl")
    with pytest.raises(TranscriptTakeover) as refused:
        async with Transcripts(tmp_path, at_open="raise").open("shared"):
            pytest.fail("it was opened")
    hooks, adopted = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, adopted.append)
    async with Transcripts(tmp_path, hooks=hooks).open("shared") as transcript:
        await transcript.append(user("after"))
    assert [event.kind for event in adopted] == [refused.value.kind]
    out, _ = await asyncio.to_thread(processes.start("next", 1, "turn").communicate)
    assert out.split() == ["next-0"]


async def test_writers_that_are_killed_lose_nothing_they_were_told_is_stored(
    processes: Processes, tmp_path: Path, seed: int, long_form: bool
) -> None:
    """Killed at random moments, again and again, while others write: no hole, nothing twice, no false takeover."""
    chance = random.Random(seed)
    rounds, told = (60 if long_form else 5), Counter[str]()
    refused: list[str] = []
    for round_number in range(rounds):
        workers = [
            processes.start(f"w{round_number}-{number}", 10_000, kind)
            for number, kind in enumerate(("append", "turn", "append"))
        ]
        seen = [await asyncio.to_thread(lines_of, worker, chance.randrange(1, 8)) for worker in workers]
        for worker, first in zip(workers, seen, strict=True):
            worker.kill()
            out, _ = await asyncio.to_thread(worker.communicate)
            whole = (first + out).split("\n")[:-1]
            refused += [text for text in whole if text.startswith("refused")]
            told.update(text for text in whole if not text.startswith("refused"))
    hooks, adopted = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, adopted.append)
    async with Transcripts(tmp_path, hooks=hooks).open("shared") as transcript:
        stored = Counter(said(transcript.entries))
    assert len(told) > rounds
    assert refused == []
    assert adopted == []
    assert set(told) - set(stored) == set()
    assert [text for text, count in stored.items() if count > 1] == []
