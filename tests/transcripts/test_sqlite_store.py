"""What a store in an SQLite file promises beyond the contract: files, locks, threads, loops and forks."""

# pyright: reportPrivateUsage=false

import asyncio
import gc
import os
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from support.transcripts_scenes import said, user
from turnlane import Runtime
from turnlane.errors import TranscriptTakeover, TranscriptUnavailable
from turnlane.sqlite import ConnectionThread
from turnlane.transcripts import Author, Changes, SqliteTranscriptStore, Transcripts
from turnlane.transcripts.entries import encoded
from turnlane.transcripts.inspection import transcripts_at
from turnlane.transcripts.sqlite_marks import MOST, Marks

NOBODY = Author()
posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes, kernel locks and fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database can be made."""
    return tmp_path / "transcripts.db"


def transcripts_in(path: Path, **settings: Any) -> Transcripts:
    return Transcripts(f"sqlite:///{path}", **settings)


def stranger(path: Path) -> "closing[sqlite3.Connection]":
    return closing(sqlite3.connect(path, isolation_level=None))


async def traced(thread: ConnectionThread, statements: list[str]) -> None:
    """Note every statement that a connection runs from now on."""
    await thread.run("trace", "", lambda connection: connection.set_trace_callback(statements.append))


class TestPlace:
    """Which file, and how it is made."""

    async def test_a_relative_path_is_below_the_working_directory(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of the first use; three slashes are relative, four absolute."""
        monkeypatch.chdir(path.parent)
        async with Transcripts("sqlite:///transcripts.db") as relative, transcripts_in(path) as absolute:
            await relative.append("a", user("one"))
            monkeypatch.chdir("/")
            await relative.append("b", user("two"))
            assert said([*await absolute.read("a"), *await absolute.read("b")]) == ["one", "two"]
            assert absolute.store.where == f"sqlite:///{path}"

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://x.db", "sqlite:///x.db?mode=ro"])
    def test_a_url_that_names_no_file_is_refused(self, url: str) -> None:
        """The message says what it should be."""
        with pytest.raises(ValueError, match=r"sqlite URL takes no options|three slashes"):
            Transcripts(url)

    @pytest.mark.parametrize("bad", ["", ":memory:", "a\0b"])
    def test_a_store_needs_the_path_of_a_file(self, bad: str) -> None:
        """What names no file is refused at construction."""
        with pytest.raises(ValueError, match="path of a file"):
            SqliteTranscriptStore(bad)

    @pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
    def test_busy_timeout_must_be_greater_than_zero(self, path: Path, bad: float) -> None:
        """A wait without a bound is refused at construction."""
        with pytest.raises(ValueError, match="busy_timeout"):
            SqliteTranscriptStore(path, busy_timeout=bad)

    def test_a_state_dir_is_for_files(self, path: Path) -> None:
        """A database keeps everything in itself."""
        with pytest.raises(ValueError, match="state_dir= is for files"):
            transcripts_in(path, state_dir=path.parent)

    @posix
    async def test_everything_it_makes_is_private(self, path: Path) -> None:
        """Readable by its owner only; closed, there is the file and the directory of its locks."""
        async with transcripts_in(path) as transcripts:
            await transcripts.append("a", user("one"))
        locks = path.parent / "transcripts.db-locks"
        assert sorted(path.parent.iterdir()) == [path, locks]
        modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in (path, locks, *locks.iterdir())}
        assert modes == {"transcripts.db": 0o600, "transcripts.db-locks": 0o700, "a.lock": 0o600}

    @posix
    async def test_whoever_comes_by_a_link_finds_the_same_locks(self, path: Path) -> None:
        """Two names of one file are one store."""
        link = path.parent / "elsewhere" / "link.db"
        link.parent.mkdir()
        link.symlink_to(path)
        async with transcripts_in(path) as one, transcripts_in(link, lock_timeout=0) as other, one.open("a"):
            with pytest.raises(TimeoutError):
                await other.append("a", user("locked out"))
        assert [found.name for found in link.parent.iterdir()] == ["link.db"]

    async def test_a_directory_that_is_not_there_is_unavailable(self, path: Path) -> None:
        """It is not made up."""
        async with transcripts_in(path.parent / "missing" / "x.db") as transcripts:
            with pytest.raises(TranscriptUnavailable) as refused:
                await transcripts.append("a", user("words"))
            assert any("words" in note for note in refused.value.__notes__)
            with pytest.raises(TranscriptUnavailable):
                await transcripts.read("a")
        assert list(path.parent.iterdir()) == []

    async def test_a_database_of_something_else_is_refused(self, path: Path) -> None:
        """And not written to."""
        with stranger(path) as connection:
            connection.execute("CREATE TABLE mine (x)")
        before = path.read_bytes()
        async with transcripts_in(path) as transcripts:
            with pytest.raises(TranscriptUnavailable, match="give transcripts a file of their own"):
                await transcripts.append("a", user("one"))
        assert path.read_bytes() == before

    async def test_a_file_that_is_no_database_is_refused(self, path: Path) -> None:
        """Somebody else's bytes stay as they are."""
        path.write_bytes(b"these are not the bytes of a database " * 100)
        async with transcripts_in(path) as transcripts:
            with pytest.raises(TranscriptUnavailable, match="not an SQLite database"):
                await transcripts.list()
        assert path.read_bytes().startswith(b"these are not")

    @pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
    async def test_durability_is_what_sqlite_calls_synchronous(
        self, path: Path, durability: str, synchronous: int
    ) -> None:
        """NORMAL or FULL, of the connection that writes, in a write-ahead log."""
        async with transcripts_in(path, durability=durability) as transcripts:
            store = transcripts.store
            assert isinstance(store, SqliteTranscriptStore)

            def settings(connection: sqlite3.Connection) -> list[object]:
                pragmas = ("synchronous", "journal_mode")
                return [connection.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas]

            assert await store._writer.run("look", "", settings) == [synchronous, "wal"]

    @pytest.mark.parametrize("named", ["sqlite:///{}", "{}"])
    async def test_commands_for_files_refuse_a_database(self, path: Path, named: str) -> None:
        """By its URL and by its file."""
        async with transcripts_in(path) as transcripts:
            await transcripts.append("a", user("one"))
            with pytest.raises(TranscriptUnavailable, match="it is a database"):
                transcripts_at(Path(named.format(path)))

    async def test_a_third_party_has_nothing_to_write(self, path: Path) -> None:
        """`owned_write` says so, and the transcript goes on."""
        async with transcripts_in(path) as transcripts, transcripts.open("a") as transcript:
            with pytest.raises(TranscriptUnavailable, match="no file that others could write"):
                transcript.owned_write(lambda: None, validate=lambda _, __: True)
            await transcript.append(user("one"))

    async def test_a_runtime_takes_the_url(self, path: Path) -> None:
        """And closes what it opened."""
        async with Runtime(sessions="memory://", transcripts=f"sqlite:///{path}") as runtime:
            async with runtime.turn("key") as turn, turn.open_transcript() as transcript:
                await transcript.append(user("one"))
            assert transcript.path.startswith(f"sqlite:///{path}#")
        assert sorted(found.suffix for found in path.parent.iterdir()) == [".db", ".db-locks"]


class TestLoop:
    """No call on the event loop that can wait."""

    async def test_nothing_blocks_the_event_loop(self, path: Path) -> None:
        """Whatever a turn does, large and small; failing and closing too."""
        with blockbuster_ctx():
            transcripts = transcripts_in(path)
            async with transcripts:
                async with transcripts.open("a", token=1) as transcript:
                    fence = transcript.fence
                    await transcript.append(user("x" * 200_000))
                    async with transcript.released() as prompt:
                        await asyncio.gather(*(transcripts.append("b", user("one")) for _ in range(5)))
                        prompt.stage(user("reply"))
                    await transcript.rollback(fence)
                with pytest.raises(TranscriptUnavailable):
                    await transcripts_in(path / "not a directory").append("a", user("words"))
                await transcripts.read("a", last=1)
                await transcripts.list()
                await transcripts.delete("a")
                await transcripts.sweep()

    async def test_the_loop_runs_on_while_the_file_is_locked(self, path: Path) -> None:
        """A writer waits for another process in its thread; reading goes on."""
        async with transcripts_in(path) as transcripts:
            await transcripts.append("a", user("one"))
            with stranger(path) as connection:
                connection.execute("BEGIN IMMEDIATE")
                appending = asyncio.ensure_future(transcripts.append("a", user("two")))
                for _ in range(1000):
                    await asyncio.sleep(0)
                assert not appending.done()
                assert said(await transcripts.read("a")) == ["one"]
                connection.execute("COMMIT")
            await appending
            assert said(await transcripts.read("a")) == ["one", "two"]

    async def test_a_file_that_stays_locked_is_unavailable_and_words_are_told(self, path: Path) -> None:
        """They can not be salvaged there either: the error has them."""
        store = SqliteTranscriptStore(path, busy_timeout=0.05)
        async with Transcripts(store) as transcripts:
            await transcripts.append("a", user("one"))
            with stranger(path) as connection:
                connection.execute("BEGIN IMMEDIATE")
                with pytest.raises(TranscriptUnavailable, match="another process kept it locked") as refused:
                    await transcripts.append("a", user("words"))
            assert any("words" in note for note in refused.value.__notes__)
            await transcripts.append("a", user("two"))
            assert said(await transcripts.read("a")) == ["one", "two"]

    async def test_a_handle_belongs_to_its_loop(self, path: Path) -> None:
        """Used in the loop of another thread it says so, and nothing is done."""
        store = SqliteTranscriptStore(path)
        handle = await store.attach("a")
        await handle.lock(1)
        await handle.load(NOBODY, adopt=False)

        def elsewhere() -> None:
            for call in (handle.lock(0), handle.prove(NOBODY, content=True), handle.append([b"{}"], NOBODY)):
                with pytest.raises(TranscriptUnavailable, match="opened in another event loop"):
                    asyncio.run(call)

        await asyncio.to_thread(elsewhere)
        await handle.append([b"{}"], NOBODY)
        await handle.aclose()
        assert await store.read("a", None) == ({},)
        await store.aclose()

    async def test_a_store_serves_loops_in_several_threads(self, path: Path) -> None:
        """Each with handles of its own."""
        store = SqliteTranscriptStore(path)

        def elsewhere(name: str) -> None:
            async def write() -> None:
                transcripts = Transcripts(store)
                for number in range(10):
                    await transcripts.append("a", user(f"{name}-{number}"))

            asyncio.run(write())

        await asyncio.gather(*(asyncio.to_thread(elsewhere, name) for name in "abc"))
        assert sorted(said(await store.read("a", None))) == [
            f"{name}-{number}" for name in "abc" for number in range(10)
        ]
        await store.aclose()

    def test_a_store_that_was_never_closed_leaves_quietly(self, path: Path) -> None:
        """Dropping the object closes its file: no warning, no thread that stays."""
        before = set(threading.enumerate())
        transcripts = transcripts_in(path)
        asyncio.run(transcripts.append("a", user("one")))
        started = {
            thread for thread in threading.enumerate() if thread.name.startswith("turnlane-transcripts")
        } - before
        assert len(started) == 2
        del transcripts
        gc.collect()
        for thread in started:
            thread.join(10)
            assert not thread.is_alive()
        assert sorted(found.name for found in path.parent.iterdir()) == ["transcripts.db", "transcripts.db-locks"]


class TestLocks:
    """The kernel's lock on a small file, and the version behind it."""

    @posix
    async def test_where_a_lock_is_broken_the_version_refuses(self, path: Path) -> None:
        """Two have it: the second to write is refused, loses nothing, and goes on."""
        first, second = transcripts_in(path), transcripts_in(path)
        async with first, second:
            async with first.open("a") as transcript:
                await transcript.append(user("one"))
                for lock in path.with_name("transcripts.db-locks").iterdir():
                    lock.unlink()
                handle = await second.store.attach("a")
                await handle.lock(1)
                await handle.load(NOBODY, adopt=False)
                await transcript.append(user("two"))
                with pytest.raises(TranscriptUnavailable, match="somebody wrote it without its lock"):
                    await handle.append(encoded([user("three")]), NOBODY)
                assert await handle.prove(NOBODY, content=True) == Changes((user("two"),))
                await handle.append(encoded([user("three")]), NOBODY)
                await handle.aclose()
            assert said(await first.read("a")) == ["one", "two", "three"]

    @posix
    async def test_a_lock_file_that_was_removed_keeps_nobody_out(self, path: Path) -> None:
        """Who gets the lock on it takes that of the new one instead."""
        store, lock = SqliteTranscriptStore(path), path.with_name("transcripts.db-locks") / "a.lock"
        holder, waiter, third = [await store.attach("a") for _ in range(3)]
        await holder.lock(1)
        waiting = asyncio.ensure_future(waiter.lock(10))
        await asyncio.sleep(0)
        lock.unlink()
        await holder.unlock()
        await waiting
        assert lock.exists()
        with pytest.raises(TimeoutError):
            await third.lock(0)
        for closing_one in (holder, waiter, third, store):
            await closing_one.aclose()

    @posix
    async def test_something_else_in_the_place_of_a_lock_file_is_refused(self, path: Path) -> None:
        """A link is not followed; the words are salvaged."""
        locks = path.with_name("transcripts.db-locks")
        locks.mkdir()
        (locks / "a.lock").symlink_to(path.parent / "elsewhere")
        async with transcripts_in(path) as transcripts:
            with pytest.raises(TranscriptUnavailable, match="its lock file") as refused:
                await transcripts.append("a", user("words"))
            assert any("salvage of a" in note for note in refused.value.__notes__)
        assert not (path.parent / "elsewhere").exists()

    async def test_an_append_is_one_transaction(self, path: Path) -> None:
        """And looks at nothing but what is owned, while nobody else commits."""
        async with transcripts_in(path) as transcripts, transcripts.open("a") as transcript:
            await transcript.append(user("one"))
            store = transcripts.store
            assert isinstance(store, SqliteTranscriptStore)
            written, read = list[str](), list[str]()
            await traced(store._writer, written)
            await traced(store._reader, read)
            await transcript.append(user("two"))
            assert [" ".join(text.split())[:6] for text in written if not text.startswith("PRAGMA")] == [
                *("BEGIN", "SELECT", "ROLLBA"),
                *("BEGIN ", "SELECT", "INSERT", "INSERT", "COMMIT"),
            ]
            assert read == []

    async def test_nothing_is_read_again_while_nobody_else_commits(self, path: Path) -> None:
        """And everything is, once somebody has, whatever it was; a peer of this process is not somebody."""
        async with transcripts_in(path) as transcripts, transcripts.open("a") as transcript:
            await transcript.append(user("one"), user("two"))
            store = transcripts.store
            assert isinstance(store, SqliteTranscriptStore)
            read = list[str]()
            await traced(store._reader, read)
            async with transcript.released():
                await transcripts.append("b", user("of another session"))
            assert not any("FROM entry" in text and "'a'" in text for text in read)
            async with transcript.released():
                with stranger(path) as connection:
                    connection.execute("DELETE FROM entry WHERE session_id = 'nobody'")
                    connection.execute("PRAGMA user_version = 1")
            assert sum("FROM entry" in text and "'a'" in text for text in read) == 1


@posix
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told_so_and_leaves_the_parent_alone(path: Path) -> None:
    """Neither its connection nor its lock is used or let go by the child; what the child opens itself works."""
    with asyncio.Runner() as runner:
        store = SqliteTranscriptStore(path)
        handle = runner.run(store.attach("a"))
        runner.run(handle.lock(1))
        runner.run(handle.load(NOBODY, adopt=False))
        child = os.fork()
        if child == 0:
            os._exit(_in_the_child(store, handle, path))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        runner.run(handle.append([b'{"content":"of the parent"}'], NOBODY))
        runner.run(handle.aclose())
        runner.run(store.aclose())
        assert said(runner.run(SqliteTranscriptStore(path).read("a", None))) == ["of the parent"]


def _in_the_child(store: SqliteTranscriptStore, handle: Any, path: Path) -> int:
    async def use() -> None:
        calls: list[Callable[[], Any]] = [
            lambda: handle.lock(0),
            lambda: handle.prove(NOBODY, content=True),
            lambda: store.read("a", None),
            lambda: store.salvage("a", [b"{}"], NOBODY, reason=""),
        ]
        for call in calls:
            with pytest.raises(TranscriptUnavailable, match="before this process was forked"):
                await call()
        await handle.aclose()
        await store.aclose()
        again = SqliteTranscriptStore(path)
        with pytest.raises(TimeoutError):
            await (await again.attach("a")).lock(0)
        await Transcripts(again).append("b", user("of the child"))
        await again.aclose()

    try:
        asyncio.new_event_loop().run_until_complete(use())
    except BaseException as error:
        sys.stderr.write(repr(error))
        return 1
    return 0


async def test_a_token_that_no_column_can_hold_is_refused(path: Path) -> None:
    """Before anything is done."""
    async with transcripts_in(path) as transcripts:
        with pytest.raises(ValueError, match="a token is a whole number"):
            await transcripts.append("a", user("one"), token=2**63)
        await transcripts.append("a", user("two"), token=2**63 - 1)
        assert said(await transcripts.read("a")) == ["two"]


async def test_marks_are_bounded(path: Path) -> None:
    """The transcripts read last are remembered; what is forgotten is read again, and that is all."""
    with stranger(path) as connection:
        marks = Marks()
        for number in range(MOST + 10):
            marks.put(str(number), (connection, number))
        marks.put("10", (connection, 1))
        marks.put("new", (connection, 1))
        assert [marks.get(key) is not None for key in ("9", "10", "11", "new")] == [False, True, False, True]


async def test_repr_tells_the_state(path: Path) -> None:
    """One line that names the file, and whether it is open."""
    store = SqliteTranscriptStore(path)
    assert repr(store) == f"<SqliteTranscriptStore sqlite:///{path} not open>"
    handle = await store.attach("a")
    await handle.lock(1)
    await handle.load(NOBODY, adopt=False)
    assert repr(store) == f"<SqliteTranscriptStore sqlite:///{path} open>"
    assert repr(handle) == f"<SqliteHandle sqlite:///{path}#a open version={handle.fence.version}>"
    await handle.aclose()
    assert "closed" in repr(handle)
    await store.aclose()


async def test_a_takeover_names_the_row(path: Path) -> None:
    """The database, the session and the number of the entry; and that the next open settles it."""
    with pytest.raises(TranscriptTakeover) as refused:
        async with transcripts_in(path) as transcripts, transcripts.open("a") as transcript:
            await transcript.append(user("one"), user("two"))
            with stranger(path) as connection:
                connection.execute("UPDATE entry SET line = '{}' WHERE seq = 2")
    assert str(refused.value).startswith(f"sqlite:///{path}#a:2 was edited by somebody who does not own it")
    assert str(refused.value).endswith("the next open adopts it")
