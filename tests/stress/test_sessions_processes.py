"""Real processes on one SQLite file: one session id per key, no lost update, nothing lost to kill -9."""

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from sessions.helpers import T0, StepClock
from support.session_workers import PROCESSES, all_told, one_session, workers
from turnlane.sessions import Sessions

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL"),
]

ROUNDS = 10


def make_stale(path: Path, *keys: str) -> list[str]:
    """Store entries whose last activity was years ago; return their ids."""

    async def store() -> list[str]:
        async with Sessions(f"sqlite:///{path}", clock=StepClock(T0)) as sessions:
            return [(await sessions.resolve(key)).id for key in keys]

    return asyncio.run(store())


def stored(path: Path, key: str) -> dict[str, object]:
    async def read() -> dict[str, object]:
        async with Sessions(f"sqlite:///{path}") as sessions:
            session = await sessions.get(key)
            assert session is not None
            return session.as_dict()

    return asyncio.run(read())


def assert_sound(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


def test_first_requests_from_several_processes_get_one_id(path: Path) -> None:
    """100 first requests of a new key from 4 processes, the first of them on a file that is not there yet."""
    with workers(path, PROCESSES) as told:
        for n in range(ROUNDS):
            session_id, new = one_session(all_told(told, "resolve", f"key-{n}"))
            assert new == 1
            assert stored(path, f"key-{n}")["id"] == session_id


def test_stale_keys_from_several_processes_get_one_new_id(path: Path) -> None:
    """100 requests of a key that went stale from 4 processes: one new id, one of them is told."""
    keys = [f"key-{n}" for n in range(ROUNDS)]
    old = make_stale(path, *keys)
    with workers(path, PROCESSES) as told:
        for key, old_id in zip(keys, old, strict=True):
            session_id, new = one_session(all_told(told, "resolve", key))
            assert new == 1
            assert session_id != old_id
            assert stored(path, key)["id"] == session_id


@pytest.mark.parametrize("stop", ["CREATE TABLE session", "BEGIN IMMEDIATE", "INSERT INTO session", "COMMIT"])
def test_a_first_caller_killed_before_its_commit_leaves_nothing(path: Path, stop: str) -> None:
    """While it stands still the others wait; when it is killed one of them mints, and the file is sound."""
    killed_half_way(path, stop, expected_new=1)


@pytest.mark.parametrize("stop", ["UPDATE session SET id", "COMMIT"])
def test_a_first_caller_of_a_stale_key_killed_before_its_commit_leaves_it_stale(path: Path, stop: str) -> None:
    """The stale id stays stale: one of the others mints the new one."""
    old_id = make_stale(path, "k")[0]
    assert killed_half_way(path, stop, expected_new=1) != old_id


@pytest.mark.parametrize("stale", [False, True], ids=["new", "stale"])
def test_the_row_of_a_first_caller_killed_after_its_commit_is_adopted(path: Path, stale: bool) -> None:
    """Its id is everybody's; nobody else is told that it is new."""
    old = make_stale(path, "k") if stale else []
    assert killed_half_way(path, "told", expected_new=0) not in old


def killed_half_way(path: Path, stop: str, *, expected_new: int) -> str:
    with workers(path, 1, stop) as first, workers(path, PROCESSES) as others:
        first[0].tell("resolve", "k")
        assert first[0].answer() == "inside"
        for worker in others:
            worker.tell("resolve", "k")
        first[0].kill()
        session_id, new = one_session([worker.answer() for worker in others])
    assert new == expected_new
    assert stored(path, "k")["id"] == session_id
    assert_sound(path)
    return session_id


@pytest.mark.parametrize("what", ["increment", "edit"])
def test_no_update_is_lost_between_processes(path: Path, what: str) -> None:
    """4 processes count to 25 each in one field, proving what they read: 100."""
    with workers(path, PROCESSES) as told:
        all_told(told, "resolve", "k")
        assert all_told(told, what, "k") == [25] * PROCESSES
    session = stored(path, "k")
    assert session["fields"] == {"n": PROCESSES * 25}
    assert session["version"] == PROCESSES * 25 + 1


def test_fields_of_several_writers_all_survive(path: Path) -> None:
    """4 processes set 25 fields each without reading, and fill one in common: all are there, the first fill won."""
    with workers(path, PROCESSES) as told:
        all_told(told, "resolve", "k")
        written = {name for answer in all_told(told, "fields", "k") for name in cast("list[str]", answer)}
    assert set(cast("dict[str, object]", stored(path, "k")["fields"])) == written | {"common"}


def test_what_was_acknowledged_survives_kill_9(path: Path) -> None:
    """Writers are killed at any moment: the file opens, is sound, and holds at least what was acknowledged."""
    make_stale(path, "k")
    acknowledged = 1
    for n in range(ROUNDS):
        with workers(path, 2) as told:
            for worker in told:
                worker.tell("forever", "k")
            for _ in range(3 + n):
                acknowledged = max(acknowledged, *(cast("int", worker.answer()) for worker in told))
            for worker in told:
                worker.kill()
        assert cast("int", stored(path, "k")["version"]) >= acknowledged
        assert_sound(path)


def test_an_established_key_is_resolved_while_a_process_stands_in_its_transaction(path: Path) -> None:
    """A process that stands still with the write lock delays nobody who has a session."""
    with workers(path, PROCESSES) as told:
        session_id, _ = one_session(all_told(told, "resolve", "k"))
        with workers(path, 1, "INSERT INTO session") as holder:
            holder[0].tell("resolve", "other")
            assert holder[0].answer() == "inside"
            assert one_session(all_told(told, "resolve", "k")) == (session_id, 0)
            holder[0].kill()
