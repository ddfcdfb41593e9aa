"""A database that is removed, or replaced by another file, while it is open."""

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from support.transcripts_scenes import said, user
from turnlane.errors import TranscriptTakeover, TranscriptUnavailable
from turnlane.sqlite import ConnectionThread, Schema, connect
from turnlane.transcripts import Transcripts
from turnlane.transcripts.sqlite import translated

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="an open file can be removed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database can be made."""
    return tmp_path / "transcripts.db"


def remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()


def restore(backup: Path, path: Path) -> None:
    """As operators do: the copy gets the name."""
    remove(path)
    os.replace(backup, path)


def salvaged(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [line for (line,) in connection.execute("SELECT line FROM salvage")]


async def test_one_that_is_removed_while_a_turn_is_out_is_a_takeover(path: Path) -> None:
    """What was staged is in the salvage of the file that has the name then, and not in one that nobody finds."""
    async with Transcripts(f"sqlite:///{path}") as transcripts:
        await transcripts.append("a", user("first"))
        with pytest.raises(TranscriptTakeover) as takeover:
            async with transcripts.open("a") as transcript, transcript.released() as prompt:
                prompt.stage(user("reply"))
                remove(path)
        assert takeover.value.kind == "deleted"
        assert ["reply" in line for line in salvaged(path)] == [True]
        async with transcripts.open("a") as transcript:
            await transcript.append(user("anew"))
    async with Transcripts(f"sqlite:///{path}") as transcripts:
        assert said(await transcripts.read("a")) == ["anew"]


async def test_an_older_copy_that_takes_its_name_is_a_takeover(path: Path, tmp_path: Path) -> None:
    """Restored while a turn is out: nothing is written behind what is not there any more."""
    async with Transcripts(f"sqlite:///{path}") as transcripts:
        await transcripts.append("a", user("first"))
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    async with Transcripts(f"sqlite:///{path}") as transcripts:
        await transcripts.append("a", user("second"))
        with pytest.raises(TranscriptTakeover):
            async with transcripts.open("a") as transcript, transcript.released() as prompt:
                prompt.stage(user("reply"))
                restore(backup, path)
        assert said(await transcripts.read("a")) == ["first"]
        assert len(salvaged(path)) == 1


async def test_while_nobody_has_it_open_the_next_call_goes_to_what_is_there(path: Path) -> None:
    """The same for every process: none goes on in a file of its own."""
    async with Transcripts(f"sqlite:///{path}") as here, Transcripts(f"sqlite:///{path}") as there:
        await here.append("a", user("first"))
        assert said(await there.read("a")) == ["first"]
        remove(path)
        await there.append("a", user("second"))
        assert said(await here.read("a")) == ["second"]
        await here.append("a", user("third"))
        assert said(await there.read("a")) == ["second", "third"]


@pytest.mark.parametrize("what", [remove, partial(Path.rename, target="elsewhere.db")], ids=["removed", "renamed"])
async def test_what_was_written_in_that_very_moment_does_not_count(
    path: Path, what: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file loses its name while a job is at work in it: an error, and the next one works in a new file."""
    monkeypatch.chdir(path.parent)
    schema = Schema(application_id=7, version=1, what="numbers", statements=("CREATE TABLE number (value)",))
    open_it = partial(connect, str(path), schema, read_only=False, durability="NORMAL")
    thread = ConnectionThread("test", open_it, patience=1.0, translated=translated)

    def write(connection: sqlite3.Connection, *, then: Callable[[Path], object]) -> None:
        connection.execute("INSERT INTO number VALUES (1)")
        then(path)

    try:
        with pytest.raises(TranscriptUnavailable, match="the file was removed or replaced meanwhile"):
            await thread.run("write", "it", partial(write, then=what))
        await thread.run("write", "it", partial(write, then=Path.exists))
    finally:
        await thread.aclose()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM number").fetchone() == (1,)
