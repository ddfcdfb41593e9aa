"""Many owned writes by several processes, some of them killed: none is lost, doubled or taken for somebody else's."""

import asyncio
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from transcripts import writers_worker
from turnlane.hooks import Hooks, TranscriptAdopted
from turnlane.transcripts import Transcripts

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL"),
]

PROCESSES, WRITERS = 4, 8
LONG_WRITES = 1_000_000


class Output:
    """What the processes of a run have said."""

    def __init__(self) -> None:
        self.stored: defaultdict[str, list[str]] = defaultdict(list)
        self.wrong: list[str] = []
        self.writes = 0

    def hear(self, text: str) -> None:
        """Take in what one process printed; half a line at its end was cut off by a kill."""
        for said in text.split("\n")[:-1]:
            what, *rest = said.split(" ", 2)
            if what == "stored":
                self.stored[rest[0]].append(rest[1])
                self.writes += 1
            elif what == "wrong":
                self.wrong.append(said)


def directory(path: Path) -> str:
    """Transcripts as files."""
    return str(path)


def database(path: Path) -> str:
    """Transcripts in a database."""
    path.mkdir()
    return f"sqlite:///{path}/transcripts.db"


def start(place: str, name: str, writes: int, *, compacts: bool, seed: int) -> "subprocess.Popen[str]":
    command = [sys.executable, writers_worker.__file__, place, name, str(WRITERS), str(writes)]
    return subprocess.Popen([*command, str(int(compacts)), str(seed)], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("where", "short"), [(directory, 1500), (database, 500)])
async def test_owned_writes_are_never_taken_for_unowned(
    tmp_path: Path, seed: int, long_form: bool, where: Callable[[Path], str], short: int
) -> None:
    """Appends, prompt releases and compactions of 4 processes with 8 writers each.

    Three of them are killed, and others go on in their place with the same transcripts.
    """
    chance, output = random.Random(seed), Output()
    wanted, round_number = (LONG_WRITES if long_form else short), 0
    while output.writes < wanted:
        place = where(tmp_path / str(round_number))
        await one_round(place, chance, output, 200 if long_form else 20)
        round_number += 1
        assert output.wrong == []
    if long_form:
        print(f"{output.writes} owned writes in {round_number} rounds, none refused")


async def one_round(place: str, chance: random.Random, output: Output, writes: int) -> None:
    # A compaction that is killed half-way is an edit nobody owns, so the process that makes them is not killed.
    # The others may be: it goes on among what they leave behind.
    # A database has none: nobody else writes into it.
    compacts = not place.startswith("sqlite:")
    steady = start(place, "steady", writes, compacts=compacts, seed=chance.randrange(2**32))
    shaky = [start(place, f"shaky{number}", writes, compacts=False, seed=number) for number in range(PROCESSES - 1)]
    heard = [await asyncio.to_thread(lines_of, process, chance.randrange(1, 4 * writes)) for process in shaky]
    for number, (process, first) in enumerate(zip(shaky, heard, strict=True)):
        process.kill()
        rest, _ = await asyncio.to_thread(process.communicate)
        output.hear(first + rest)
        shaky[number] = start(place, f"again{number}", writes // 2, compacts=False, seed=number)
    for process in (*shaky, steady):
        rest, _ = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0
        output.hear(rest)
    await check(place, output)


def lines_of(process: "subprocess.Popen[str]", count: int) -> str:
    assert process.stdout is not None
    return "".join(process.stdout.readline() for _ in range(count))


async def check(place: str, output: Output) -> None:
    """Hold what is stored against what was told."""
    hooks, adopted = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, adopted.append)
    async with Transcripts(place, hooks=hooks) as transcripts:
        for session in writers_worker.SESSIONS:
            async with transcripts.open(session) as transcript:
                texts = Counter(entry["content"] for entry in transcript.entries)
            assert set(output.stored[session]) - set(texts) == set()
            assert [text for text, count in texts.items() if count > 1] == []
    output.stored.clear()
    assert adopted == []
