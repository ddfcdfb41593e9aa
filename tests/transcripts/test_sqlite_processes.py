"""Several processes on one database, some of them killed: nothing acknowledged is lost, nothing owned looks foreign."""

import asyncio
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.transcripts_places import SqlitePlace
from support.transcripts_scenes import said, user
from turnlane.errors import TranscriptTakeover
from turnlane.hooks import Hooks, TranscriptAdopted
from turnlane.transcripts import Transcripts

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="kernel locks and SIGKILL"),
]
WORKER = Path(__file__).with_name("process_worker.py")
CRASHES = Path(__file__).with_name("sqlite_crash_worker.py")

Worker = subprocess.Popen[str]


@contextmanager
def workers(path: Path, *jobs: tuple[str, int, str]) -> Generator[list[Worker], None, None]:
    """Start writers, which are killed at the latest when the block ends."""
    started: list[Worker] = []
    try:
        for name, count, kind in jobs:
            command = [sys.executable, str(WORKER), f"sqlite:///{path}", name, str(count), kind]
            started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()


async def test_four_processes_append_and_every_fence_accepts(tmp_path: Path) -> None:
    """Each entry once, in the order of its writer; and so does the fence of a turn that is out all the while."""
    path = tmp_path / "transcripts.db"
    kinds = ("append", "turn", "append", "turn")
    async with Transcripts(f"sqlite:///{path}") as transcripts, transcripts.open("shared") as transcript:
        async with transcript.released() as prompt:
            with workers(path, *((f"w{number}", 25, kind) for number, kind in enumerate(kinds))) as started:
                printed = [(await asyncio.to_thread(worker.communicate))[0] for worker in started]
            prompt.stage(user("reply"))
        told = [text for out in printed for text in out.splitlines()]
        assert len(told) == 100
        assert sorted(said(prompt.changes)) == sorted(told)
        stored = said(transcript.entries)
    assert stored[-1] == "reply"
    for number in range(4):
        own = [text for text in stored if text.startswith(f"w{number}")]
        assert own == [f"w{number}-{count}" for count in range(25)]


async def test_an_edit_by_hand_during_a_release_stops_every_process(tmp_path: Path) -> None:
    """Who is out is refused, and so is a peer in another process; nothing of either is lost."""
    place, out = SqlitePlace(tmp_path / "transcripts.db"), ""
    async with Transcripts(place.make_store()) as transcripts:
        with pytest.raises(TranscriptTakeover):
            async with transcripts.open("shared") as transcript:
                await transcript.append(user("first"), user("second"), user("third"))
                async with transcript.released() as prompt:
                    prompt.stage(user("reply"))
                    place.edit("shared", 1, b'{"content":"by hand"}')
                    with workers(place.path, ("peer", 1, "append")) as [worker]:
                        out, _ = await asyncio.to_thread(worker.communicate)
    assert out.startswith("refused peer-0 TranscriptTakeover")
    assert sorted(said(map(json.loads, place.salvaged("shared")))) == ["peer-0", "reply"]


async def test_writers_that_are_killed_lose_nothing_they_were_told_is_stored(
    tmp_path: Path, seed: int, long_form: bool
) -> None:
    """Killed at random moments, again and again, while others write: no hole, nothing twice, no false takeover."""
    path = tmp_path / "transcripts.db"
    chance, told, refused = random.Random(seed), Counter[str](), list[str]()
    rounds = 60 if long_form else 3
    for number in range(rounds):
        jobs = [(f"r{number}-{name}", 10_000, kind) for name, kind in enumerate(("append", "turn", "append"))]
        with workers(path, *jobs) as started:
            seen = [await asyncio.to_thread(_first_lines, worker, chance.randrange(1, 8)) for worker in started]
            for worker, first in zip(started, seen, strict=True):
                worker.kill()
                whole = (first + (await asyncio.to_thread(worker.communicate))[0]).split("\n")[:-1]
                refused += [text for text in whole if text.startswith("refused")]
                told.update(text for text in whole if not text.startswith("refused"))
    hooks, adopted = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, adopted.append)
    async with Transcripts(f"sqlite:///{path}", hooks=hooks) as transcripts, transcripts.open("shared") as transcript:
        stored = Counter(said(transcript.entries))
    assert len(told) > rounds
    assert (refused, adopted) == ([], [])
    assert set(told) - set(stored) == set()
    assert [text for text, count in stored.items() if count > 1] == []


def _first_lines(worker: Worker, count: int) -> str:
    assert worker.stdout is not None
    return "".join(worker.stdout.readline() for _ in range(count))


@pytest.mark.parametrize("scene", ["append", "turn", "delete"])
async def test_killed_at_each_statement_the_next_one_goes_on(
    tmp_path: Path, scene: str, seed: int, long_form: bool
) -> None:
    """No lock is left, what was acknowledged is there, what is there is owned, nothing is there twice.

    The short form takes one statement of five, others with each seed.
    """
    first, step = (0, 1) if long_form else (seed % 5, 5)
    database, directory = tmp_path / "seed.db", tmp_path / "copies"
    directory.mkdir()
    async with Transcripts(f"sqlite:///{database}") as transcripts:
        await transcripts.append("old", user("zero"), token=1)
    command = [sys.executable, str(CRASHES), str(database), str(directory), scene, str(first), str(step)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    reports: list[tuple[int, list[str], bool]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(reports) * step > 40
    assert [ended for *_, ended in reports] == [False] * (len(reports) - 1) + [True]
    for number, told, _ in reports:
        await _aftermath(directory / f"{number}.db", told)


async def _aftermath(path: Path, told: list[str]) -> None:
    async with Transcripts(f"sqlite:///{path}", lock_timeout=0, at_open="raise") as transcripts:
        texts: dict[str, list[str]] = {}
        for session_id in ("old", "new"):
            async with transcripts.open(session_id, token=9) as transcript:
                texts[session_id] = said(transcript.entries)
                await transcript.append(user("next"))
            assert said(await transcripts.read(session_id)) == [*texts[session_id], "next"]
    kept = said(map(json.loads, SqlitePlace(path).salvaged("old")))
    old = texts["old"]
    if "anew" in told or "anew" in old:
        assert old == ["anew"]
    elif "deleted" in told or not old:
        assert old == []
    else:
        assert old[0] == "zero"
        assert old[1:] in (["one", "two", "three"][: len(old) - 1], ["one", "two", "three", "back"])
    assert texts["new"] in ([], ["four"])
    assert {"one", "two", "three", "four", "anew"} & {*told} <= {*old, *texts["new"]}
    if "rolled back" in told:
        assert kept == ["back"]
        assert "back" not in old
