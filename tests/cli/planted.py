"""The facts of a run in which everything went right, and ways to plant what went wrong."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from turnlane.cli.demo.facts import MessageFacts, Moment, RunFacts


def moment(number: int) -> Moment:
    return Moment(number=number, at=number / 10)


def message(label: str, key: str, text: str, **members: Any) -> MessageFacts:
    defaults: dict[str, Any] = {
        "label": label,
        "key": key,
        "text": text,
        "api": "chat",
        "stream": False,
        "leaves": False,
        "arrived": None,
        "started": None,
        "ended": None,
        "returned": None,
        "session_id": None,
        "remembered": None,
        "answered": None,
        "received": None,
        "error": None,
    }
    return MessageFacts(**{**defaults, **members})


def ran(label: str, key: str, text: str, *, at: tuple[int, int, int], knew: tuple[str, ...]) -> MessageFacts:
    arrived, started, ended = at
    return message(
        label,
        key,
        text,
        arrived=moment(arrived),
        started=moment(started),
        ended=moment(ended),
        returned=moment(ended + 1),
        session_id=f"session-of-{key}",
        remembered=knew,
        answered=f"answer to {text}",
        received=f"answer to {text}",
    )


def healthy_run() -> RunFacts:
    """Two keys; a-1, a-2 and a-3 overlapped on arrival, the client of a-2 hung up; b-1 and b-2 ran meanwhile."""
    return RunFacts(
        name="protected",
        model="scripted",
        seconds=5.0,
        messages=(
            ran("a-1", "a", "one", at=(0, 1, 10), knew=()),
            message("a-2", "a", "two", leaves=True, arrived=moment(2), returned=moment(3)),
            ran("a-3", "a", "three", at=(4, 12, 20), knew=("one",)),
            ran("b-1", "b", "uno", at=(5, 6, 14), knew=()),
            ran("b-2", "b", "due", at=(7, 16, 22), knew=("uno",)),
        ),
        transcripts={"session-of-a": ("one", "three"), "session-of-b": ("uno", "due")},
        lanes_left=0,
    )


def with_message(facts: RunFacts, label: str, **changes: Any) -> RunFacts:
    messages = tuple(replace(m, **changes) if m.label == label else m for m in facts.messages)
    return replace(facts, messages=messages)


def with_transcripts(facts: RunFacts, transcripts: Mapping[str, tuple[str, ...]]) -> RunFacts:
    return replace(facts, transcripts=transcripts)
