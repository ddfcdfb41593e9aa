"""A monitor beside writers of other processes: what they own is not told, what somebody else edits is."""

import asyncio
import contextlib
import random
import subprocess
import sys
from pathlib import Path

import pytest

from support.transcripts_faults import Faults, FaultyFiles, Killed
from support.transcripts_scenes import append, edit_in_place, replace_by_rename, truncate, user
from support.transcripts_watched import found_by
from turnlane.hooks import UnownedEditFound
from turnlane.transcripts import JsonlTranscriptStore, Transcripts

WORKER = Path(__file__).with_name("monitored_worker.py")
EDITS = (append, edit_in_place, truncate, replace_by_rename)


def started(directory: Path, name: str, writes: str, seed: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, str(WORKER), str(directory), name, "4", writes, seed])


@pytest.mark.timeout(300)
async def test_owned_writes_of_other_processes_are_not_told_and_foreign_edits_are(
    tmp_path: Path, seed: int, long_form: bool
) -> None:
    """Two processes of four writers on four sessions, and this process; edits go on in other files all the while."""
    writes, edits = (400, 400) if long_form else (40, 40)
    transcripts, chance = Transcripts(tmp_path), random.Random(seed)
    for number in range(edits):
        await transcripts.append(f"edited-{number}", user("first"), user("second"), user("third"))
    async with found_by(transcripts) as found:
        await found.monitor.audit()
        workers = [started(tmp_path, name, str(writes), str(seed)) for name in ("one", "two")]
        try:
            ended = [asyncio.create_task(asyncio.to_thread(worker.wait)) for worker in workers]
            told: list[UnownedEditFound] = []
            for number in range(edits):
                await transcripts.append(f"owned-{chance.randrange(4)}", user("from here"))
                chance.choice(EDITS)(tmp_path / f"edited-{number}.jsonl")
                told.append(await found.next())
            assert await asyncio.gather(*ended) == [0, 0], f"seed {seed}"
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        assert [Path(event.path).stem for event in told] == [f"edited-{n}" for n in range(edits)], f"seed {seed}"
        assert all(event.line is not None for event in told)
        await found.nothing()
        await found.monitor.audit()  # what is told now, or was told beyond those, fails where `found_by` ends


@pytest.mark.parametrize("halves", [True, False])
async def test_what_a_killed_writer_has_left_is_not_told(tmp_path: Path, halves: bool) -> None:
    """At whatever call it died: its torn write is settled by whoever writes next. A foreign byte behind it is told."""
    for number in range(14):
        directory = tmp_path / str(number)
        await Transcripts(directory).append("a", user("first"))
        faults = Faults(number, "kill", halves=halves)
        with contextlib.suppress(Killed):
            await Transcripts(JsonlTranscriptStore(directory, files=FaultyFiles(faults))).append("a", user("torn"))
        async with found_by(Transcripts(directory)) as found:
            await found.nothing()
            with (directory / "a.jsonl").open("ab") as file:
                file.write(b"foreign")
            assert (await found.next()).kind in ("appended", "edited"), faults.names
