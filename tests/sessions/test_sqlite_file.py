"""The file of a store: making it, recognising it, and what its errors become."""

import asyncio
import os
import sqlite3
import stat
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest

from sessions.helpers import files_in, pragma, sessions_at, stranger
from turnlane.errors import SessionCorrupt, SessionStoreUnavailable
from turnlane.sessions import Session, Sessions, SqliteSessionStore

posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes and fork")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def content(path: Path) -> bytes:
    return path.read_bytes()


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


async def test_what_was_stored_is_there_after_opening_again(path: Path) -> None:
    """Closing and opening the file changes nothing."""
    async with sessions_at(path) as sessions:
        await sessions.resolve("k")
        before = await sessions.patch("k", {"a": [1, {"b": "ü"}]})
    async with sessions_at(path) as sessions:
        assert await sessions.resolve("k") == before


async def test_a_relative_path_is_below_the_working_directory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes are relative, four absolute."""
    monkeypatch.chdir(path.parent)
    async with Sessions("sqlite:///sessions.db") as relative, sessions_at(path) as absolute:
        assert (await relative.resolve("k")).id == (await absolute.resolve("k")).id


async def test_closing_leaves_one_file_and_no_thread(path: Path) -> None:
    """The log is folded into the file, helper files are gone, threads end."""
    before = set(threading.enumerate())
    async with sessions_at(path) as sessions:
        await sessions.resolve("k")
        started = set(threading.enumerate()) - before
    for thread in started:
        await asyncio.to_thread(thread.join, 10)
    assert [found.name for found in path.parent.iterdir()] == ["sessions.db"]
    assert not any(thread.is_alive() for thread in started)
    assert len(started) == 2


@posix
async def test_a_new_file_is_private_and_an_old_one_keeps_its_mode(path: Path) -> None:
    """Mode 0600 for file, log and index whatever the umask; a mode somebody chose stays."""
    umask = os.umask(0)
    try:
        async with sessions_at(path) as sessions:
            await sessions.resolve("k")
            assert [mode_of(found) for found in files_in(path.parent)] == [0o600] * 3
    finally:
        os.umask(umask)
    os.chmod(path, 0o640)
    async with sessions_at(path) as sessions:
        await sessions.resolve("k2")
    assert mode_of(path) == 0o640


async def test_many_stores_can_open_a_new_file_at_once(path: Path) -> None:
    """First opening is a race for the journal mode and the schema that everybody survives, every time."""
    for n in range(20):
        stores = [sessions_at(path.with_suffix(f".{n}")) for _ in range(6)]
        found = await asyncio.gather(*(sessions.resolve("k") for sessions in stores))
        assert len({session.id for session in found}) == 1
        assert sum(session.is_new for session in found) == 1
        for sessions in stores:
            await sessions.aclose()


async def test_a_file_that_is_being_made_is_not_taken_for_somebody_elses(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marks of a file are read at one moment: the schema may appear between two questions."""
    connect = sqlite3.connect

    def traced(*args: object, **options: object) -> sqlite3.Connection:
        connection = cast("sqlite3.Connection", cast("Any", connect)(*args, **options))
        connection.set_trace_callback(made_by_another)
        return connection

    def made_by_another(statement: str) -> None:
        if statement.startswith("PRAGMA user_version") and not made:
            made.append(statement)
            asyncio.run(make(path))

    made: list[str] = []
    monkeypatch.setattr(sqlite3, "connect", traced)
    async with sessions_at(path) as sessions:
        await sessions.resolve("k")
    assert made


async def make(path: Path) -> None:
    """Open the file as another process would; it may find it locked."""
    store = SqliteSessionStore(path, busy_timeout=0.05)
    with suppress(SessionStoreUnavailable):
        await store.open()
    await store.aclose()


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    """A file made in advance, with a mode of its own, is used."""
    write(path, b"")
    async with sessions_at(path) as sessions:
        assert (await sessions.resolve("k")).is_new


async def test_a_directory_that_is_not_there_is_unavailable(path: Path) -> None:
    """Directories are not made up; making one and trying again works."""
    sessions = sessions_at(path / "sub.db")
    write(path, b"")
    with pytest.raises(SessionStoreUnavailable) as caught:
        await sessions.resolve("k")
    assert "can not be opened" in caught.value.reason
    replace_by_directory(path)
    assert (await sessions.resolve("k")).is_new
    await sessions.aclose()


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    """Somebody else's bytes stay as they are."""
    write(path, b"these are not the bytes of a database " * 100)
    with pytest.raises(SessionStoreUnavailable, match="not an SQLite database") as caught:
        await sessions_at(path).resolve("k")
    assert caught.value.where == f"sqlite:///{path}"
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
    assert content(path).startswith(b"these are not")


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE mine (x)", "PRAGMA user_version = 3", "PRAGMA application_id = 77"]
)
async def test_a_database_of_something_else_is_refused(path: Path, statement: str) -> None:
    """A database with tables or marks of another program is not written to."""
    with stranger(path) as connection:
        connection.execute(statement)
    before = content(path)
    with pytest.raises(SessionStoreUnavailable, match="belongs to something else"):
        await sessions_at(path).resolve("k")
    assert content(path) == before


async def test_a_newer_schema_is_refused(path: Path) -> None:
    """A file of a later version names both versions and is not written to."""
    async with sessions_at(path) as sessions:
        await sessions.resolve("k")
    with stranger(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(SessionStoreUnavailable, match="its schema has version 2, this turnlane knows 1"):
        await sessions_at(path).resolve("k")


@pytest.mark.parametrize(
    "damage",
    [
        "fields = 'not json'",
        "fields = '[1]'",
        "fields = '{\"a\": NaN}'",
        "fields = x'7b7d'",
        "fields = CAST(x'7b22ff227d' AS TEXT)",
        f"fields = '{'[' * 100_000}'",
        "id = ''",
        "version = 'one'",
        "created_at = 'yesterday'",
        "last_activity_at = 9e999",
    ],
    ids=lambda damage: damage[:30],
)
async def test_an_entry_that_can_not_be_read_is_an_error_until_it_is_deleted(path: Path, damage: str) -> None:
    """Nothing is minted in its place; the error says where it is; deleting it is possible and heals."""
    async with sessions_at(path) as sessions:
        await sessions.resolve("k")
        await sessions.resolve("other")
        with stranger(path) as connection:
            connection.execute(f"UPDATE session SET {damage} WHERE key = 'k'")
        for call in (sessions.resolve, sessions.get, sessions.renew):
            with pytest.raises(SessionCorrupt) as caught:
                await call("k")
            assert caught.value.key == "k"
            assert str(path) in caught.value.where
        with pytest.raises(SessionCorrupt):
            await sessions.patch("k", {"a": 1})
        with pytest.raises(SessionCorrupt):
            await sessions.list()
        assert not (await sessions.resolve("other")).is_new
        assert await sessions.delete("k")
        assert (await sessions.resolve("k")).is_new


async def test_a_damaged_page_is_an_error(path: Path) -> None:
    """What SQLite itself finds broken reaches the caller as corrupt or unavailable, never as absent."""
    async with sessions_at(path) as sessions:
        for n in range(200):
            await sessions.resolve(f"key-{n}")
    damaged = content(path)
    write(path, damaged[:4096] + b"\xff" * (len(damaged) - 4096))
    with pytest.raises((SessionCorrupt, SessionStoreUnavailable)):
        await sessions_at(path).resolve("key-1")


async def test_a_full_disk_is_unavailable_and_leaves_the_entry(path: Path) -> None:
    """The write that did not fit is undone, the store goes on, and says what is wrong."""
    async with sessions_at(path) as sessions:
        before = await sessions.resolve("k")
        await pragma(sessions, "PRAGMA max_page_count = 1")
        with pytest.raises(SessionStoreUnavailable, match="the disk is full") as caught:
            await sessions.patch("k", {"a": "x" * 100_000})
        assert (caught.value.key, caught.value.operation) == ("k", "change")
        assert await sessions.resolve("k") == Session.of(before)
        await sessions.touch("k")
        assert (await sessions.patch("k", {"a": "x"})).fields == {"a": "x"}


async def test_an_error_that_lasts_is_healed_by_opening_again(path: Path) -> None:
    """After the file could not be written, the next call opens it anew."""
    async with sessions_at(path) as sessions:
        await sessions.resolve("k")
        await pragma(sessions, "PRAGMA query_only = 1")
        with pytest.raises(SessionStoreUnavailable, match="can not be written"):
            await sessions.patch("k", {"a": 1})
        assert (await sessions.patch("k", {"a": 1})).fields == {"a": 1}


@pytest.mark.parametrize("bad", ["", ":memory:", "a\0b"])
def test_a_store_needs_the_path_of_a_file(bad: str) -> None:
    """What names no file is refused at construction."""
    with pytest.raises(ValueError, match="path of a file"):
        SqliteSessionStore(bad)


@posix
async def test_a_file_that_is_removed_forks_no_key(path: Path) -> None:
    """All who have it open go to the file that has the name now: one key has one id there."""
    async with sessions_at(path) as here, sessions_at(path) as there:
        before = await here.resolve("k")
        assert (await there.resolve("k")).id == before.id
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
        after = await there.resolve("k")
        assert after.id != before.id
        assert (await here.resolve("k")).id == after.id
