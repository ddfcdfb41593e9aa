"""An engine does what the one in memory does, step by step, whatever comes in whatever order."""

import sys
from pathlib import Path

import pytest

from engines.differential import Differential
from turnlane.engines import Engine
from turnlane.testing import ManualClock

HISTORIES, STEPS = 25, 60


@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform == "win32", reason="lanes in a directory are POSIX")
async def test_lanes_in_a_directory_are_those_in_memory(tmp_path: Path, seed: int, long_form: bool) -> None:
    """Drawn histories of three workers on two keys."""
    from turnlane.engines.local import LocalEngine

    for number in range(2000 if long_form else HISTORIES):
        directory = tmp_path / str(number)

        def make(clock: ManualClock, directory: Path = directory) -> Engine:
            return LocalEngine(str(directory), clock=clock)

        history = Differential(make, f"{seed}/{number}")
        try:
            await history.run(STEPS)
        except AssertionError as error:
            raise AssertionError(f"--seed={seed}, history {number}: {error}") from error


@pytest.mark.skipif(sys.platform == "win32", reason="lanes in a directory are POSIX")
@pytest.mark.parametrize("what", ["first", "ahead", "fate", "is_alive"])
async def test_what_keeps_lanes_wrongly_is_found(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Each of these, within as many histories."""
    from turnlane.engines.local.rows import SqliteRows

    if what == "first":
        monkeypatch.setattr(SqliteRows, what, SqliteRows.last)
    else:
        answer = {"ahead": 1, "fate": None, "is_alive": False}[what]

        def always(*_: object) -> object:
            return answer

        monkeypatch.setattr(SqliteRows, what, always)
    with pytest.raises((AssertionError, TimeoutError)):
        await test_lanes_in_a_directory_are_those_in_memory(tmp_path, seed, False)
