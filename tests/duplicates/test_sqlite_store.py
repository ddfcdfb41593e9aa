"""The SQLite store of messages: its file, its process, what its trouble becomes."""

# pyright: reportPrivateUsage=false

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from support.asgi_duplicates import once, runs_of, send
from support.asgi_staged import StagedApp, serving
from turnlane import LaneMiddleware, Runtime
from turnlane.duplicates import Answer, Duplicates, Message, MessageRecord, Run, SqliteDuplicateStore
from turnlane.duplicates.process import is_gone, this_process
from turnlane.errors import DuplicatesUnavailable, NotConfigured
from turnlane.testing import AsgiDriver

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are told by /proc")

MESSAGE = Message(id="a" * 64, fingerprint="f" * 64)


def url_in(directory: Path) -> str:
    return f"sqlite:///{directory / 'duplicates.db'}"


def content_of(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


def change(directory: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(directory / "duplicates.db", isolation_level=None)) as connection:
        connection.execute(statement, values)


async def claimed(duplicates: Duplicates) -> Run:
    run = await duplicates.claim(MESSAGE)
    assert isinstance(run, Run)
    return run


async def known(duplicates: Duplicates) -> MessageRecord:
    record = await duplicates.claim(MESSAGE)
    assert isinstance(record, MessageRecord)
    return record


async def test_nothing_blocks_the_loop(tmp_path: Path) -> None:
    """Opening, claiming, keeping, sending again, waiting, closing."""
    app = StagedApp(held=False)
    with blockbuster_ctx():
        async with Duplicates(url_in(tmp_path)) as duplicates, Duplicates(url_in(tmp_path)) as other:
            for made in (duplicates, other, duplicates):
                async with serving(LaneMiddleware(app, key="x-session-key", idempotency=made, trusted_keys=True)) as at:
                    assert (await send(at, "it")).body == b"it"
    assert runs_of(app) == ["it"]


async def test_the_file_is_private(tmp_path: Path) -> None:
    """Answers are for who asked: mode 0600."""
    async with Duplicates(url_in(tmp_path)) as duplicates:
        await claimed(duplicates)
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "duplicates.db").stat().st_mode) == 0o600


async def test_what_it_stores_names_nobody(tmp_path: Path) -> None:
    """Session keys and idempotency keys are stored as digests."""
    app = StagedApp(held=False)
    async with serving(once(app, store=url_in(tmp_path))) as driver:
        await send(driver, "it", "the-idempotency-key", session="the-session-key")
    written = content_of(tmp_path)
    assert b"the-idempotency-key" not in written
    assert b"the-session-key" not in written


async def test_a_url_of_the_middleware_is_closed_with_its_runtime(tmp_path: Path) -> None:
    """The middleware has no end of its own; opened again, it knows its messages."""
    app, runtime = StagedApp(held=False), Runtime()
    middleware = LaneMiddleware(
        app, key="x-session-key", runtime=runtime, idempotency=url_in(tmp_path), trusted_keys=True
    )
    for _ in range(2):
        async with AsgiDriver(middleware) as driver:
            assert (await send(driver, "it")).body == b"it"
            assert "open" in repr(middleware._settings.duplicates)
        await runtime.aclose()
        assert "not open" in repr(middleware._settings.duplicates)
    assert runs_of(app) == ["it"]


async def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    """A database of sessions, or no database."""
    change(tmp_path, "CREATE TABLE x (y)")
    with pytest.raises(DuplicatesUnavailable, match="belongs to something else"):
        await Duplicates(url_in(tmp_path)).claim(MESSAGE)
    (tmp_path / "duplicates.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(DuplicatesUnavailable, match="not an SQLite database"):
        await Duplicates(url_in(tmp_path)).claim(MESSAGE)


async def test_a_locked_file_is_waited_for_within_bounds(tmp_path: Path) -> None:
    """Then it can not be told, and the message is not run."""
    store = SqliteDuplicateStore(tmp_path / "duplicates.db", busy_timeout=0.05)
    async with store, Duplicates(store) as duplicates:
        with closing(sqlite3.connect(tmp_path / "duplicates.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DuplicatesUnavailable, match="locked"):
                await duplicates.claim(MESSAGE)
            other.execute("ROLLBACK")
        await duplicates.free(await claimed(duplicates))


@pytest.mark.parametrize(
    ("column", "value"),
    [("state", "odd"), ("headers", "[1]"), ("headers", "{"), ("status", "x"), ("body", "text"), ("expires", "soon")],
)
async def test_a_damaged_record_is_told(tmp_path: Path, column: str, value: object) -> None:
    """Not taken for a new message."""
    async with Duplicates(url_in(tmp_path)) as duplicates:
        await duplicates.finish(await claimed(duplicates), "answered", Answer(status=200, headers=(), body=b""))
        change(tmp_path, f"UPDATE message SET {column} = ?", value)
        with pytest.raises(DuplicatesUnavailable, match="damaged"):
            await duplicates.claim(MESSAGE)


@pytest.mark.parametrize("path", ["", ":memory:", "a\0b"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    """When it is made."""
    with pytest.raises(ValueError, match="path of a file"):
        SqliteDuplicateStore(path)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_refused(seconds: float) -> None:
    """When it is made."""
    with pytest.raises(ValueError, match="busy_timeout"):
        SqliteDuplicateStore("x.db", busy_timeout=seconds)


def test_a_store_that_was_never_opened_has_no_owner() -> None:
    """It may be opened in another process."""
    with pytest.raises(NotConfigured, match="not open"):
        _ = SqliteDuplicateStore("x.db").owner


@linux
class TestProcesses:
    """Who runs a message, and whether that process is still there."""

    def test_this_process_is_there(self) -> None:
        """And says so itself."""
        assert not is_gone(this_process())

    def test_a_process_that_ended_has_gone(self) -> None:
        """Its pid is nobody's, or somebody else's by now, or waits to be asked how it ended."""
        script = "from turnlane.duplicates.process import this_process; print(this_process())"
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            name = process.stdout.readline().strip()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert is_gone(name)  # a zombie
        assert is_gone(name)
        boot, namespace, _, started = name.split("/")
        assert is_gone(f"{boot}/{namespace}/{os.getpid()}/{started}")

    def test_what_can_not_be_told_is_there(self) -> None:
        """Another boot has ended; of another namespace, or of nowhere, nothing is known."""
        boot, namespace, pid, started = this_process().split("/")
        assert is_gone(f"another/{namespace}/{pid}/{started}")
        assert not is_gone(f"{boot}/another/{pid}/0")
        assert not is_gone(f"/{namespace}/{pid}/0")
        assert not is_gone(f"{boot}/{namespace}/{pid}/")
        assert not is_gone(f"{boot}/{namespace}/x/0")
        assert not is_gone("nonsense")

    @pytest.mark.parametrize(("state", "found"), [("waiting", "new"), ("running", "unknown"), ("answered", "answered")])
    async def test_what_a_process_left_behind_is_found_out(self, tmp_path: Path, state: str, found: str) -> None:
        """By the process that asks next: new if the app was not called, unknown if it was."""
        async with Duplicates(url_in(tmp_path)) as duplicates, Duplicates(url_in(tmp_path)) as other:
            run = await claimed(duplicates)
            if state != "waiting":
                assert await duplicates.begin(run)
            if state == "answered":
                await duplicates.finish(run, "answered", Answer(status=200, headers=(), body=b""))
            boot, namespace, _, _ = this_process().split("/")
            change(tmp_path, "UPDATE message SET owner = ?", f"{boot}/{namespace}/{os.getpid()}/1 x")
            got = await other.claim(MESSAGE)
            assert ("new" if isinstance(got, Run) else got.state) == found
            if state == "waiting":
                assert not await duplicates.begin(run)

    async def test_one_that_was_thought_dead_still_has_its_answer_kept(self, tmp_path: Path) -> None:
        """Its outcome was unknown until then, and nobody ran it again."""
        async with Duplicates(url_in(tmp_path)) as duplicates, Duplicates(url_in(tmp_path)) as other:
            run = await claimed(duplicates)
            await duplicates.begin(run)
            change(tmp_path, "UPDATE message SET owner = 'another/1/1/1 x'")
            assert (await known(other)).state == "unknown"
            await duplicates.finish(run, "answered", Answer(status=200, headers=(), body=b"late"))
            answer = (await known(other)).answer
            assert answer is not None
            assert answer.body == b"late"

    async def test_what_runs_in_another_process_for_ever_is_given_up(self, tmp_path: Path) -> None:
        """Where the process can not be told, its record expires: unknown, not running for ever."""
        async with Duplicates(url_in(tmp_path)) as duplicates, Duplicates(url_in(tmp_path)) as other:
            await duplicates.begin(await claimed(duplicates))
            change(tmp_path, "UPDATE message SET owner = '///'")
            assert (await known(other)).state == "running"
            change(tmp_path, "UPDATE message SET expires = 1.0")
            assert (await known(other)).state == "unknown"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
async def test_a_forked_child_is_told(tmp_path: Path) -> None:
    """A connection is not carried into it."""
    async with Duplicates(url_in(tmp_path)) as duplicates:
        await duplicates.free(await claimed(duplicates))
        with pytest.MonkeyPatch.context() as patch:
            pid = os.getpid()
            patch.setattr(os, "getpid", lambda: pid + 1)
            failing: Any = duplicates.claim(MESSAGE)
            with pytest.raises(NotConfigured, match="forked"):
                await failing
