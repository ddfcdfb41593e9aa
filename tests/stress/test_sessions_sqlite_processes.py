"""Real processes on one SQLite file, one of which stands still or is killed between statements of a transaction."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from support.session_workers import PROCESSES, all_told, make_stale, one_session, stored, workers

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.mark.parametrize("stop", ["CREATE TABLE session", "BEGIN IMMEDIATE", "INSERT INTO session", "COMMIT"])
def test_a_first_caller_killed_before_its_commit_leaves_nothing(path: Path, stop: str) -> None:
    """While it stands still the others wait; when it is killed one of them mints, and the file is sound."""
    killed_half_way(path, stop)


@pytest.mark.parametrize("stop", ["UPDATE session SET id", "COMMIT"])
def test_a_first_caller_of_a_stale_key_killed_before_its_commit_leaves_it_stale(path: Path, stop: str) -> None:
    """The stale id stays stale: one of the others mints the new one."""
    old_id = make_stale(f"sqlite:///{path}", "k")[0]
    assert killed_half_way(path, stop) != old_id


def killed_half_way(path: Path, stop: str) -> str:
    url = f"sqlite:///{path}"
    with workers(url, 1, stop) as first, workers(url, PROCESSES) as others:
        first[0].tell("resolve", "k")
        assert first[0].answer() == "inside"
        for worker in others:
            worker.tell("resolve", "k")
        first[0].kill()
        session_id, new = one_session([worker.answer() for worker in others])
    assert new == 1
    assert stored(url, "k").id == session_id
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return session_id


def test_an_established_key_is_resolved_while_a_process_stands_in_its_transaction(path: Path) -> None:
    """A process that stands still with the write lock delays nobody who has a session."""
    url = f"sqlite:///{path}"
    with workers(url, PROCESSES) as told:
        session_id, _ = one_session(all_told(told, "resolve", "k"))
        with workers(url, 1, "INSERT INTO session") as holder:
            holder[0].tell("resolve", "other")
            assert holder[0].answer() == "inside"
            assert one_session(all_told(told, "resolve", "k")) == (session_id, 0)
            holder[0].kill()
