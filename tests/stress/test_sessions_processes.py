"""Real processes on one store: one session id per key, no lost update, nothing lost to kill -9."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from support.redis_servers import redis_url
from support.session_workers import PROCESSES, all_told, make_stale, one_session, stored, workers

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL"),
]

ROUNDS = 10


@pytest.fixture(params=["sqlite", "redis", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a store that is empty, or is not there yet; a file is sound in the end."""
    if request.param == "sqlite":
        path = tmp_path / "sessions.db"
        yield f"sqlite:///{path}"
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    elif request.param == "redis":
        with redis_url() as made:
            yield made
    else:
        yield request.getfixturevalue("postgresql").new_url()


@pytest.mark.parametrize("stale", [False, True], ids=["new", "stale"])
def test_requests_from_several_processes_get_one_id(url: str, stale: bool) -> None:
    """100 requests of a key that is new, or went stale, from 4 processes: one new id, and one of them is told."""
    keys = [f"key-{n}" for n in range(ROUNDS)]
    old = make_stale(url, *keys) if stale else []
    with workers(url, PROCESSES) as told:
        for key in keys:
            session_id, new = one_session(all_told(told, "resolve", key))
            assert new == 1
            assert session_id not in old
            assert stored(url, key).id == session_id


@pytest.mark.parametrize("stale", [False, True], ids=["new", "stale"])
def test_the_row_of_a_first_caller_that_was_killed_is_adopted(url: str, stale: bool) -> None:
    """Its id is everybody's; nobody else is told that it is new."""
    old = make_stale(url, "k") if stale else []
    with workers(url, 1, "told") as first, workers(url, PROCESSES) as others:
        first[0].tell("resolve", "k")
        assert first[0].answer() == "inside"
        first[0].kill()
        session_id, new = one_session(all_told(others, "resolve", "k"))
    assert new == 0
    assert stored(url, "k").id == session_id
    assert session_id not in old


@pytest.mark.parametrize("what", ["increment", "edit"])
def test_no_update_is_lost_between_processes(url: str, what: str) -> None:
    """4 processes count to 25 each in one field, proving what they read: 100."""
    with workers(url, PROCESSES) as told:
        all_told(told, "resolve", "k")
        assert all_told(told, what, "k") == [25] * PROCESSES
    session = stored(url, "k")
    assert (session.fields, session.version) == ({"n": PROCESSES * 25}, PROCESSES * 25 + 1)


def test_fields_of_several_writers_all_survive(url: str) -> None:
    """4 processes set 25 fields each without reading, and fill one in common: all are there, the first fill won."""
    with workers(url, PROCESSES) as told:
        all_told(told, "resolve", "k")
        written = {name for answer in all_told(told, "fields", "k") for name in cast("list[str]", answer)}
    assert set(stored(url, "k").fields) == written | {"common"}


def test_what_was_acknowledged_survives_kill_9(url: str, long_form: bool) -> None:
    """Writers are killed at any moment: the entry is whole and holds at least what was acknowledged."""
    make_stale(url, "k")
    acknowledged = 1
    for n in range(ROUNDS if long_form else ROUNDS // 2):
        with workers(url, 2) as told:
            for worker in told:
                worker.tell("forever", "k")
            for _ in range(3 + n):
                acknowledged = max(acknowledged, *(cast("int", worker.answer()) for worker in told))
            for worker in told:
                worker.kill()
        assert stored(url, "k").version >= acknowledged
