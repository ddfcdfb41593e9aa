"""What says what is owned is lost, or an older copy, while a turn is out: what is owned anew is no progress to it."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from support.transcripts_scenes import append, line, said, salvaged_in, user
from turnlane.errors import TranscriptTakeover, TranscriptUnavailable
from turnlane.transcripts import Transcripts

Make = Callable[..., Transcripts]

OWNED = 3
LATER = (0, 1, OWNED, OWNED + 1, OWNED + 2, 60)
"""So many owned writes follow the adoption; among them those that bring the version to where the fence has it."""


def emptied(journal: Path, _: bytes) -> None:
    journal.write_bytes(b"")


def zeroed(journal: Path, _: bytes) -> None:
    journal.write_bytes(bytes(journal.stat().st_size))


def an_older_copy(journal: Path, older: bytes) -> None:
    journal.write_bytes(older)


def removed(journal: Path, _: bytes) -> None:
    journal.unlink()


@pytest.mark.parametrize("writes", LATER)
@pytest.mark.parametrize("lose", [emptied, zeroed, an_older_copy, removed])
async def test_a_journal_that_is_lost_while_a_turn_is_out(
    make: Make, tmp_path: Path, lose: Callable[[Path, bytes], None], writes: int
) -> None:
    """Somebody appends by hand, another opener adopts that and many write: the turn that is out does not own it."""
    transcripts, others = make(), make()
    journal = tmp_path / "transcripts" / "a.jsonl.journal"
    async with transcripts.open("a"):
        pass
    older = journal.read_bytes()
    refused = TranscriptUnavailable if lose is removed else TranscriptTakeover
    with pytest.raises(refused):
        async with transcripts.open("a") as transcript:
            for number in range(OWNED):
                await transcript.append(user(str(number)))
            async with transcript.released() as prompt:
                prompt.stage(user("reply"))
                lose(journal, older)
                append(Path(transcript.path))
                async with others.open("a"):
                    pass
                for number in range(writes):
                    await others.append("a", user(f"peer {number}"))
    assert salvaged_in(tmp_path / "transcripts") == ["reply"]
    there = said(await make().read("a"))
    assert there == ["0", "1", "2", "by hand", *(f"peer {number}" for number in range(writes))]


@pytest.mark.parametrize("lose", [emptied, zeroed])
async def test_a_journal_that_is_lost_alone_is_written_anew_by_whoever_has_proven_the_content(
    make: Make, tmp_path: Path, lose: Callable[[Path, bytes], None]
) -> None:
    """The turn that is out knows what it has proven, and the file holds that: nothing foreign, no takeover."""
    transcripts = make()
    journal = tmp_path / "transcripts" / "a.jsonl.journal"
    async with transcripts.open("a", token=7) as transcript:
        await transcript.append(user("one"))
        async with transcript.released() as prompt:
            prompt.stage(user("reply"))
            lose(journal, b"")
    async with make(at_open="raise").open("a", token=7) as transcript:
        assert said(transcript.entries) == ["one", "reply"]


@pytest.mark.parametrize("writes", LATER)
async def test_a_row_that_is_lost_while_a_turn_is_out(tmp_path: Path, writes: int) -> None:
    """The same in a database, where its row says what is owned."""
    path = tmp_path / "transcripts.db"
    async with Transcripts(f"sqlite:///{path}") as transcripts, Transcripts(f"sqlite:///{path}") as others:
        with pytest.raises(TranscriptTakeover):
            async with transcripts.open("a") as transcript:
                for number in range(OWNED):
                    await transcript.append(user(str(number)))
                async with transcript.released() as prompt:
                    prompt.stage(user("reply"))
                    lose_row(path)
                    async with others.open("a"):
                        pass
                    for number in range(writes):
                        await others.append("a", user(f"peer {number}"))
        there = said(await others.read("a"))
    assert there == ["0", "1", "2", "by hand", *(f"peer {number}" for number in range(writes))]


def lose_row(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM transcript")
        connection.execute(
            "INSERT INTO entry (session_id, seq, line) VALUES ('a', ?, ?)",
            (OWNED + 1, line(user("by hand")).decode().rstrip("\n")),
        )
