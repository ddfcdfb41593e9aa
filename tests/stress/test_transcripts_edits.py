"""Many edits nobody owns, of all kinds, among live writers of other processes: none is accepted silently."""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pytest

from support.transcripts_scenes import EDITS, user
from support.transcripts_sql_edits import SQL_EDITS, edit_by_sql
from transcripts import writers_worker
from turnlane.errors import TranscriptCorrupt, TranscriptTakeover
from turnlane.transcripts import Transcripts

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL"),
]

LONG_EDITS = 100_000
MOST_ENTRIES = 60


class Files:
    """Transcripts as files, edited as anybody may."""

    kinds: Collection[str] = EDITS

    def __init__(self, directory: Path, _: random.Random) -> None:
        self.directory = directory
        self.where = str(directory)

    def edit(self, name: str, session: str) -> None:
        EDITS[name][0](self.directory / f"{session}.jsonl")

    def tidy(self, session: str) -> None:
        """Keep the salvage of a long run small."""
        (self.directory / f"{session}.salvage.jsonl").unlink(missing_ok=True)


class Database:
    """Transcripts in a database, edited by SQL."""

    kinds: Collection[str] = SQL_EDITS

    def __init__(self, directory: Path, chance: random.Random) -> None:
        self.path = directory / "transcripts.db"
        self.where = f"sqlite:///{self.path}"
        self.chance = chance

    def edit(self, name: str, session: str) -> None:
        edit_by_sql(self.path, session, name, self.chance)

    def tidy(self, _: str) -> None:
        """It is one file, whatever is in it."""


Place = Files | Database


class Round:
    """One turn that is out while somebody edits the transcript, or while nobody does.

    Mutable: the counts, and `deck`, the kinds of edits that are to come.
    """

    def __init__(self, place: Place, transcripts: Transcripts, chance: random.Random) -> None:
        self.place = place
        self.transcripts = transcripts
        self.chance = chance
        self.edits: Counter[str] = Counter()
        self.clean = 0
        self.number = 0
        self.deck: list[str] = []

    def draw(self) -> str:
        """Return the next kind: each as often as any other, nothing twice as often."""
        if not self.deck:
            self.deck = [*self.place.kinds, "nothing", "nothing"]
            self.chance.shuffle(self.deck)
        return self.deck.pop()

    async def run(self, session: str) -> bool:
        """Return whether the transcript is still good for another round."""
        self.number += 1
        name, good = self.draw(), False
        try:
            async with self.transcripts.open(session, turn=f"turn-{self.number}") as transcript:
                await transcript.append(user(f"first {self.number}"), user(f"second {self.number}"))
                good = len(transcript.entries) < MOST_ENTRIES
                async with transcript.released():
                    for _ in range(self.chance.randrange(3)):
                        await asyncio.sleep(0.0005 * self.chance.random())  # peers write meanwhile, or not
                    if name != "nothing":
                        self.place.edit(name, session)
                    for _ in range(self.chance.randrange(2)):
                        await asyncio.sleep(0.0005 * self.chance.random())
        except TranscriptTakeover as error:
            if name == "nothing":
                raise AssertionError(f"round {self.number}: an owned write was taken for an edit") from error
            self.edits[name] += 1
            return good
        except TranscriptCorrupt:
            # An earlier edit left a line that is no entry; this one was not made.
            return False
        assert name == "nothing", f"round {self.number}: the edit {name!r} was accepted silently"
        self.clean += 1
        return good


def start_peer(place: Place, seed: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, writers_worker.__file__, place.where, "peer", "3", "3000", "0", str(seed)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(("kind", "short"), [(Files, 400), (Database, 120)])
async def test_no_unowned_edit_is_accepted_silently(
    tmp_path: Path, seed: int, long_form: bool, kind: type[Place], short: int
) -> None:
    """Each kind at any moment of a release, while three writers of another process append to the same transcripts."""
    wanted, chance = (LONG_EDITS if long_form else short), random.Random(seed)
    place = kind(tmp_path, chance)
    peers: list[subprocess.Popen[bytes]] = []
    async with writers_worker.opened(place.where) as transcripts:
        rounds = Round(place, transcripts, chance)
        try:
            session_number = 0
            while rounds.edits.total() < wanted:
                session_number += 1
                session = (
                    writers_worker.SESSIONS[session_number % 3] if session_number < 4 else f"more-{session_number}"
                )
                if not peers or peers[-1].poll() is not None:
                    peers.append(start_peer(place, seed))
                while await rounds.run(session) and rounds.edits.total() < wanted:
                    pass
                place.tidy(session)
        finally:
            for peer in peers:
                peer.kill()
                peer.wait()
    assert len(rounds.edits) == len(place.kinds)
    assert rounds.clean > wanted / 40
    if long_form:
        print(f"{rounds.edits.total()} edits refused, {rounds.clean} releases without one accepted: {rounds.edits}")


@pytest.mark.parametrize(
    ("kind", "check"), [(Files, "owned_file.OwnedFile.compare"), (Database, "sqlite_owned.finding_in")]
)
async def test_a_fence_that_does_not_look_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Place], check: str
) -> None:
    """The negative control: with a check that finds nothing, the first edits are accepted silently."""

    def finds_nothing(*_: object, **__: object) -> None:
        return None

    async def some_rounds() -> None:
        chance = random.Random(1)
        place = kind(tmp_path, chance)
        async with writers_worker.opened(place.where) as transcripts:
            rounds = Round(place, transcripts, chance)
            for number in range(40):
                await rounds.run(f"session-{number}")

    monkeypatch.setattr(f"turnlane.transcripts.{check}", finds_nothing)
    with pytest.raises(AssertionError, match="was accepted silently"):
        await some_rounds()
