"""How watchfiles is driven."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from turnlane.transcripts import watching


class Pausing:
    """A lock that writes down how long it was waited for."""

    def __init__(self, pauses: list[float]) -> None:
        self._pauses = pauses

    def acquire(self, *, timeout: float = -1) -> bool:
        self._pauses.append(timeout)
        return timeout < 0


def test_each_pause_is_followed_by_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told at the first question that it watches, and asked to stop at the next one, whichever it is."""
    pauses: list[float] = []
    told: list[object] = []
    stop = threading.Event()

    def scripted(directory: str, **settings: object) -> Iterator[set[tuple[int, str]]]:
        asked = settings["stop_event"]
        assert isinstance(asked, watching.Pauses)
        assert (settings["step"], settings["debounce"], settings["rust_timeout"]) == (0, 0, 0)
        assert not any(asked.is_set() for _ in range(4))
        yield {(1, f"{directory}/a"), (2, f"{directory}/b")}
        stop.set()
        assert asked.is_set()

    monkeypatch.setattr("watchfiles.watch", scripted)
    monkeypatch.setattr(watching, "threading", SimpleNamespace(Lock=lambda: Pausing(pauses)))
    watching.watch("d", False, told.append, lambda: told.append("started"), stop)
    assert told == ["started", frozenset({"d/a", "d/b"})]
    assert pauses == [-1, watching.PAUSE, watching.PAUSE, watching.PAUSE]
