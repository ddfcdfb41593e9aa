"""What a store in a file promises beyond the contract: locks, threads, loops and forks."""

import asyncio
import gc
import os
import sqlite3
import sys
import threading
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from sessions.helpers import sessions_at, store_of, stranger, write_lock, writer_of
from turnlane.errors import NotConfigured, SessionStoreUnavailable
from turnlane.hooks import Hooks, SessionMinted
from turnlane.sessions import Sessions, SqliteSessionStore

posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes and fork")


async def test_a_file_that_is_locked_is_unavailable_in_bounded_time(path: Path) -> None:
    """Everybody who waits for the write lock hears at most `busy_timeout` later, however many they are."""
    store = SqliteSessionStore(path, busy_timeout=0.2)
    async with store, Sessions(store) as sessions:
        await sessions.resolve("k")
        with write_lock(path):
            async with asyncio.timeout(5):  # one after the other they would take ten
                results = await asyncio.gather(
                    *(sessions.patch("k", {"a": n}) for n in range(50)), return_exceptions=True
                )
        assert all(isinstance(result, SessionStoreUnavailable) for result in results)
        assert "another process kept it locked" in str(results[0])
        assert (await sessions.patch("k", {"a": 1})).version == 2


async def test_a_lock_that_is_let_go_is_waited_for(path: Path) -> None:
    """A writer behind another process goes on when that is done."""
    async with sessions_at(path) as sessions:
        await sessions.resolve("k")
        with stranger(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            patching = asyncio.ensure_future(sessions.patch("k", {"a": 1}))
            assert (await sessions.resolve("k")).version == 1
            connection.execute("COMMIT")
            assert (await patching).version == 2


async def test_an_established_key_needs_no_lock_and_leaves_no_trace(path: Path) -> None:
    """Resolving goes on while another process holds the write lock, and the file does not change."""
    async with sessions_at(path) as sessions:
        first = await sessions.resolve("k")
        with write_lock(path) as connection:
            before = connection.execute("PRAGMA data_version").fetchone()
            async with asyncio.timeout(5):
                for _ in range(50):
                    assert (await sessions.resolve("k")).id == first.id
                await sessions.get("k")
                await sessions.find(first.id)
                await sessions.list()
                await sessions.resolve("new", visible=False)
        with stranger(path) as connection:
            assert connection.execute("PRAGMA data_version").fetchone() == before
            assert connection.execute("SELECT count(*) FROM session").fetchone() == (1,)


async def test_nothing_blocks_the_event_loop(path: Path) -> None:
    """Opening, minting, reading, changing, failing and closing make no blocking call on the loop."""
    with blockbuster_ctx():
        sessions = sessions_at(path)
        async with sessions:
            await asyncio.gather(*(sessions.resolve("k") for _ in range(20)))
            await sessions.patch("k", {"a": 1})
            async with sessions.edit("k") as draft:
                draft["b"] = 1
            await sessions.touch("k")
            await sessions.renew("k")
            await sessions.list()
            await sessions.delete("k")
        with pytest.raises(SessionStoreUnavailable):
            await sessions_at(path / "not a directory").resolve("k")


async def test_the_loop_runs_on_while_the_file_is_locked(path: Path) -> None:
    """Other tasks make progress while a writer waits for another process."""
    async with sessions_at(path) as sessions:
        await sessions.resolve("k")
        with write_lock(path):
            patching = asyncio.ensure_future(sessions.patch("k", {"a": 1}))
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not patching.done()
        assert (await patching).version == 2


async def test_a_cancelled_mint_is_finished_first(path: Path) -> None:
    """The caller hears of its cancellation when the row is stored; the row is adopted and was told once."""
    hooks, minted = Hooks(), list[SessionMinted]()
    hooks.on(SessionMinted, minted.append)
    sessions = Sessions(f"sqlite:///{path}", hooks=hooks)
    async with sessions:
        with write_lock(path):
            resolving = asyncio.ensure_future(sessions.resolve("k"))
            await until_waiting(sessions)
            for _ in range(3):
                resolving.cancel()
                await asyncio.sleep(0)
            assert not resolving.done()
        with pytest.raises(asyncio.CancelledError):
            await resolving
        adopted = await sessions.resolve("k")
        assert not adopted.is_new
        assert [event.session_id for event in minted] == [adopted.id]


async def test_a_cancelled_write_that_fails_reports_the_cancellation(path: Path) -> None:
    """The cancellation wins over the error, and nobody complains of an error that was never looked at."""
    store = SqliteSessionStore(path, busy_timeout=0.2)
    async with store, Sessions(store) as sessions:
        await sessions.resolve("k")
        with write_lock(path):
            patching = asyncio.ensure_future(sessions.patch("k", {"a": 1}))
            await until_waiting(sessions)
            patching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await patching
        gc.collect()
        assert (await sessions.resolve("k")).version == 1


async def until_waiting(sessions: Sessions) -> None:
    """Return when the write that was begun has been given to the writer's thread."""
    deadline = asyncio.get_running_loop().time() + 10
    while not writer_of(sessions).is_open:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_more_thread_can_use_the_same_sessions(path: Path) -> None:
    """Loops in several threads at the same time share one file store."""
    async with sessions_at(path) as sessions:

        def other() -> set[str]:
            async def many() -> set[str]:
                return {found.id for found in await asyncio.gather(*(sessions.resolve(f"k{n}") for n in range(50)))}

            return asyncio.run(many())

        here, there, more = await asyncio.gather(
            asyncio.gather(*(sessions.resolve(f"k{n}") for n in range(50))),
            asyncio.to_thread(other),
            asyncio.to_thread(other),
        )
    assert {session.id for session in here} == there == more
    assert len(there) == 50


def test_sessions_that_were_never_closed_leave_quietly(path: Path) -> None:
    """Dropping the object closes its file: no warning, no thread that stays."""
    before = set(threading.enumerate())
    sessions = sessions_at(path)
    asyncio.run(sessions.resolve("k"))
    started = set(threading.enumerate()) - before
    del sessions
    gc.collect()
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()
    assert [found.name for found in path.parent.iterdir()] == ["sessions.db"]


@posix
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_neither_uses_nor_closes_the_file(path: Path, request: pytest.FixtureRequest) -> None:
    """The child is told so, dropping what it inherited closes nothing, and the parent goes on."""
    gc.freeze()  # what tests before this one left is not looked at
    request.addfinalizer(gc.unfreeze)
    sessions = sessions_at(path)
    asyncio.run(sessions.resolve("k"))
    asyncio.run(sessions.touch("k"))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            inherited = connections()
            with pytest.raises(NotConfigured, match="after the fork"):
                asyncio.run(sessions.resolve("k"))
            with pytest.raises(NotConfigured, match="after the fork"):
                asyncio.run(store_of(sessions).read("k"))
            asyncio.run(sessions.aclose())
            asyncio.run(store_of(sessions).aclose())
            del sessions
            assert connections() == inherited == 2
            again = sessions_at(path)
            assert not asyncio.run(again.resolve("k")).is_new
            asyncio.run(again.aclose())
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (asyncio.run(sessions.patch("k", {"a": 1}))).version == 2
    asyncio.run(sessions.aclose())
    assert asyncio.run(sessions_at(path).resolve("k")).fields == {"a": 1}


def connections() -> int:
    """How many connections made since the freeze this process has not forgotten."""
    for _ in range(3):  # what dropping an object runs may drop more
        gc.collect()
    return sum(issubclass(type(found), sqlite3.Connection) for found in gc.get_objects())


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_busy_timeout_must_be_greater_than_zero(bad: float) -> None:
    """A wait without a bound is refused at construction."""
    with pytest.raises(ValueError, match="busy_timeout"):
        SqliteSessionStore("x.db", busy_timeout=bad)


async def test_repr_tells_the_state(path: Path) -> None:
    """One line that names the file and whether it is open."""
    store = SqliteSessionStore(path)
    assert repr(store) == f"<SqliteSessionStore sqlite:///{path} not open>"
    async with store:
        assert repr(store) == f"<SqliteSessionStore sqlite:///{path} open>"
