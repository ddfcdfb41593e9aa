"""What somebody with another connection may do to a database, and how it is found."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from support.transcripts_scenes import said, user
from turnlane.errors import TranscriptCorrupt
from turnlane.transcripts import Author, Changes, SqliteTranscriptStore, UnownedEdit
from turnlane.transcripts.digest import EMPTY, chained
from turnlane.transcripts.entries import encoded

NOBODY = Author()
BEFORE = ("first", "second", "third", "fourth")
BY_HAND = '{"content":"by hand"}'

SWAP = "UPDATE entry SET seq = -seq WHERE seq IN (2, 3); UPDATE entry SET seq = 5 + seq WHERE seq < 0"
EDITS: dict[str, tuple[str, str, int | None]] = {
    "a line": (f"UPDATE entry SET line = '{BY_HAND}' WHERE seq = 2", "edited", 2),
    "the last line": (f"UPDATE entry SET line = '{BY_HAND}' WHERE seq = 4", "edited", 4),
    "one letter": ("UPDATE entry SET line = replace(line, 'second', 'SECOND')", "edited", 2),
    "a blank": ("UPDATE entry SET line = line || ' ' WHERE seq = 4", "edited", 4),
    "another row behind": (f"INSERT INTO entry (session_id, seq, line) VALUES ('a', 5, '{BY_HAND}')", "appended", 5),
    "a row far behind": (f"INSERT INTO entry (session_id, seq, line) VALUES ('a', 99, '{BY_HAND}')", "appended", 5),
    "a row with no number": (
        f"INSERT INTO entry (session_id, seq, line) VALUES ('a', 'x', '{BY_HAND}')",
        "appended",
        5,
    ),
    "a row before": (f"INSERT INTO entry (session_id, seq, line) VALUES ('a', 0, '{BY_HAND}')", "edited", 1),
    "a row between": (f"INSERT INTO entry (session_id, seq, line) VALUES ('a', 1.5, '{BY_HAND}')", "edited", 2),
    "the first row gone": ("DELETE FROM entry WHERE seq = 1", "edited", 1),
    "a row gone": ("DELETE FROM entry WHERE seq = 3", "edited", 3),
    "the last row gone": ("DELETE FROM entry WHERE seq = 4", "truncated", 4),
    "all but one gone": ("DELETE FROM entry WHERE seq > 1", "truncated", 2),
    "all rows gone": ("DELETE FROM entry", "deleted", None),
    "two rows swapped": (
        "UPDATE entry SET seq = -seq WHERE seq IN (2, 3); UPDATE entry SET seq = 5 + seq",
        "edited",
        1,
    ),
    "another number": ("UPDATE entry SET seq = 14 WHERE seq = 4", "edited", 4),
    "two lines in a row": ("UPDATE entry SET line = line || char(10) || line WHERE seq = 3", "edited", 3),
    "a digest": ("UPDATE entry SET digest = x'00' WHERE seq = 3", "edited", 3),
    "no digests": ("UPDATE entry SET digest = NULL", "edited", 1),
    "the record gone": ("DELETE FROM transcript", "unknown", None),
    "record and rows gone": ("DELETE FROM transcript; DELETE FROM entry", "deleted", None),
    "an older version": ("UPDATE transcript SET version = version - 1", "unknown", None),
    "the same version of less": ("UPDATE transcript SET entries = entries - 1", "unknown", None),
    "a record of nonsense": ("UPDATE transcript SET digest = 'none'", "unknown", None),
    "a record of no number": ("UPDATE transcript SET version = -7", "unknown", None),
}
"""Statements, and what is said of them: the kind, and the entry."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database can be made."""
    return tmp_path / "transcripts.db"


def run(path: Path, statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(statements)


def lines_in(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [line for (line,) in connection.execute("SELECT line FROM entry WHERE session_id = 'a' ORDER BY seq")]


@pytest.mark.parametrize("name", EDITS)
async def test_an_edit_is_found_told_and_adopted(path: Path, name: str) -> None:
    """Behind a fence it is refused as often as it is looked at; the next opener adopts it and goes on."""
    statements, kind, line = EDITS[name]
    store, other = SqliteTranscriptStore(path), SqliteTranscriptStore(path)
    handle = await store.attach("a")
    await handle.lock(1)
    await handle.load(NOBODY, adopt=False)
    await handle.append(encoded([user(text) for text in BEFORE]), NOBODY)
    await handle.prove(NOBODY, content=True)
    fence = handle.fence
    run(path, statements)
    there = lines_in(path)
    for _ in range(2):
        with pytest.raises(UnownedEdit) as found:
            await handle.prove(NOBODY, content=True)
        assert (found.value.finding.kind, found.value.finding.line) == (kind, line)
    assert lines_in(path) == there
    await handle.unlock()
    opener = await other.attach("a")
    await opener.lock(1)
    entries, _ = await opener.load(NOBODY, adopt=True)
    await opener.append(encoded([user("next")]), NOBODY)
    assert await opener.prove(NOBODY, content=True) == Changes()
    assert (await opener.load(NOBODY, adopt=False))[0] == [*entries, user("next")]
    assert lines_in(path)[:-1] == there
    await opener.unlock()
    await handle.lock(1)
    with pytest.raises(UnownedEdit):
        await handle.prove(NOBODY, content=True)
    assert handle.fence == fence
    for closing_one in (handle, opener, store, other):
        await closing_one.aclose()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET line = CAST(line AS BLOB)",
        "UPDATE entry SET line = line",
        "UPDATE entry SET line = 'x'; UPDATE entry SET line = (SELECT line FROM kept WHERE kept.seq = entry.seq)",
        "VACUUM",
        "INSERT INTO entry (session_id, seq, line) VALUES ('b', 1, '{}')",
    ],
)
async def test_what_leaves_the_content_is_no_edit(path: Path, statement: str) -> None:
    """Another type, a change that was taken back, another file layout, another session."""
    store = SqliteTranscriptStore(path)
    handle = await store.attach("a")
    await handle.lock(1)
    await handle.load(NOBODY, adopt=False)
    await handle.append(encoded([user(text) for text in BEFORE]), NOBODY)
    run(path, "CREATE TABLE kept AS SELECT seq, line FROM entry")
    run(path, statement)
    assert await handle.prove(NOBODY, content=True) == Changes()
    await handle.append(encoded([user("next")]), NOBODY)
    assert said((await handle.load(NOBODY, adopt=False))[0]) == [*BEFORE, "next"]
    await handle.aclose()
    await store.aclose()


async def test_a_forged_history_is_found_by_who_has_it_open(path: Path) -> None:
    """All digests right, the record too, with a new version: what the fence has proven is not in it."""
    store = SqliteTranscriptStore(path)
    handle = await store.attach("a")
    await handle.lock(1)
    await handle.load(NOBODY, adopt=False)
    await handle.append(encoded([user(text) for text in BEFORE]), NOBODY)
    lines = encoded([user(text) for text in ("first", "SECOND", "third", "fourth")])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        digest = EMPTY
        for number, line in enumerate(lines, 1):
            digest = chained(digest, [line])
            connection.execute("UPDATE entry SET line = ?, digest = ? WHERE seq = ?", (line.decode(), digest, number))
        connection.execute("UPDATE transcript SET version = version + 1, digest = ?", (digest,))
    for content in (True, False):
        with pytest.raises(UnownedEdit) as found:
            await handle.prove(NOBODY, content=content)
        assert found.value.finding.kind == "edited"
    await handle.aclose()
    await store.aclose()


@pytest.mark.parametrize("line", ["x'ff'", "'not JSON'", "'[]'", "x'7b22ff227d'"])
async def test_what_is_no_entry_is_not_adopted(path: Path, line: str) -> None:
    """It is named until somebody mends it; deleting is possible."""
    store = SqliteTranscriptStore(path)
    handle = await store.attach("a")
    await handle.lock(1)
    await handle.load(NOBODY, adopt=False)
    await handle.append(encoded([user(text) for text in BEFORE]), NOBODY)
    run(path, f"UPDATE entry SET line = {line} WHERE seq = 3")
    for _ in range(2):
        with pytest.raises(TranscriptCorrupt) as corrupt:
            await handle.load(NOBODY, adopt=True)
        assert (corrupt.value.path, corrupt.value.line) == (f"sqlite:///{path}#a", 3)
    with pytest.raises(TranscriptCorrupt):
        await store.read("a", 2)
    assert said(await store.read("a", 1)) == ["fourth"]
    await handle.delete(NOBODY, at=1.0)
    assert await handle.load(NOBODY, adopt=False) == ([], None)
    await handle.aclose()
    await store.aclose()


async def test_above_the_bound_the_end_is_looked_at_and_the_rest_by_the_next_open(path: Path) -> None:
    """As with files: an edit in the middle is found later, not never; at the end it is found at once."""
    store = SqliteTranscriptStore(path, verify_up_to=10)
    handle = await store.attach("a")
    await handle.lock(1)
    await handle.load(NOBODY, adopt=False)
    await handle.append(encoded([user(text) for text in BEFORE]), NOBODY)
    run(path, EDITS["one letter"][0])
    await handle.prove(NOBODY, content=True)
    await handle.append(encoded([user("behind it")]), NOBODY)
    with pytest.raises(UnownedEdit) as found:
        await handle.load(NOBODY, adopt=False)
    assert (found.value.finding.kind, found.value.finding.line) == ("edited", 2)
    run(path, "UPDATE entry SET line = replace(line, 'SECOND', 'second')")
    run(path, "UPDATE entry SET line = replace(line, 'behind', 'BEHIND')")
    for prove in (handle.prove(NOBODY, content=True), handle.prove(NOBODY, content=False), handle.join(NOBODY)):
        with pytest.raises(UnownedEdit) as found:
            await prove
        assert (found.value.finding.kind, found.value.finding.line) == ("edited", 5)
    with pytest.raises(UnownedEdit):
        await handle.append(encoded([user("refused")]), NOBODY)
    await handle.aclose()
    await store.aclose()


async def test_always_is_always(path: Path) -> None:
    """Whatever its size, and before each append."""
    store = SqliteTranscriptStore(path, verify_up_to=10, verify_always=True)
    handle = await store.attach("a")
    await handle.lock(1)
    await handle.load(NOBODY, adopt=False)
    await handle.append(encoded([user(text) for text in BEFORE]), NOBODY)
    run(path, EDITS["one letter"][0])
    for content in (True, False):
        with pytest.raises(UnownedEdit) as found:
            await handle.prove(NOBODY, content=content)
        assert (found.value.finding.kind, found.value.finding.line) == ("edited", 2)
    await handle.aclose()
    await store.aclose()
