"""Judges what the server of many conversations noted, what it stored, and what its clients got."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from support.net_conversations import Outcome, Planned
from turnlane.cli.demo.model import Message, scripted_reply

__all__ = ("Evidence", "Figures", "figures_of", "violations_of")


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One message on the server: the numbers of its notes, in the order of all notes, and what they carry."""

    planned: Planned
    arrived: int | None
    started: int | None
    ended: int | None
    returned: int | None
    session_id: str | None
    reply: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known after a run.

    Attributes:
        plan: what was sent.
        outcomes: what clients got, by label.
        notes: what the server noted, in order.
        transcripts: what it stored, by session id.
        sessions: the ids its session store has, by key.
        lanes: how many lanes were left.
        totals: how many turns ended how, as the lanes counted.
    """

    plan: Sequence[Sequence[Planned]]
    outcomes: Mapping[str, Outcome]
    notes: Sequence[Mapping[str, Any]]
    transcripts: Mapping[str, Sequence[Message]]
    sessions: Mapping[str, str]
    lanes: int
    totals: Mapping[str, int]

    def lives(self) -> list[list[Life]]:
        """Return the messages of each conversation in the order they arrived; those that did not are left out."""
        noted: dict[tuple[str, str], Mapping[str, Any]] = {(note["label"], note["kind"]): note for note in self.notes}

        def life(planned: Planned) -> Life:
            found = {kind: noted.get((planned.label, kind), {}) for kind in ("loaded", "ended")}
            numbers = {
                kind: noted.get((planned.label, kind), {}).get("number")
                for kind in ("arrived", "started", "ended", "returned")
            }
            return Life(
                planned=planned,
                session_id=found["loaded"].get("session_id"),
                reply=found["ended"].get("reply"),
                **numbers,
            )

        return [
            sorted(
                (each for each in map(life, messages) if each.arrived is not None), key=lambda each: each.arrived or 0
            )
            for messages in self.plan
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How much happened: a run in which nothing did proves nothing."""

    messages: int
    answered: int
    over_responses: int
    streams: int
    overlapping: int
    left_in_line: int
    left_in_stream: int
    halves: int


def figures_of(evidence: Evidence) -> Figures:
    """Count what happened."""
    lives = evidence.lives()
    every = [life for conversation in lives for life in conversation]
    gone = [life for life in every if evidence.outcomes[life.planned.label].reply is None]
    return Figures(
        messages=sum(map(len, evidence.plan)),
        answered=sum(outcome.reply is not None for outcome in evidence.outcomes.values()),
        over_responses=sum(planned.responses for messages in evidence.plan for planned in messages),
        streams=sum(planned.stream for messages in evidence.plan for planned in messages),
        overlapping=sum(
            first.returned is None or (second.arrived or 0) < first.returned
            for conversation in lives
            for first, second in pairwise(conversation)
        ),
        left_in_line=sum(life.started is None and life.planned.manner == "leaves waiting" for life in gone),
        left_in_stream=sum(life.started is not None and life.planned.manner == "leaves streaming" for life in gone),
        halves=sum(life.planned.manner == "half a body" for life in gone),
    )


def violations_of(evidence: Evidence) -> dict[str, list[str]]:
    """Return what broke each promise; an empty list where it was kept."""
    lives = evidence.lives()
    return {
        "one session id per key": list(_several_ids(evidence, lives)),
        "turns never overlap, by the log": [text for each in lives for text in _overlaps(each)],
        "turns never overlap, by the transcript": list(_wrong_transcripts(evidence)),
        "arrival order": [text for each in lives for text in _out_of_order(each)],
        "every message stored once": list(_wrongly_stored(evidence, lives)),
        "no reply lost": list(_lost_replies(evidence, lives)),
        "half a message never ran": [
            each.planned.label
            for conversation in lives
            for each in conversation
            if each.planned.manner == "half a body" and each.started is not None
        ],
        "no lane left": [f"{evidence.lanes} lanes"] if evidence.lanes else [],
    }


def _several_ids(evidence: Evidence, lives: Iterable[Sequence[Life]]) -> Iterable[str]:
    owners: dict[str, str] = {}
    for conversation in lives:
        ids = {life.session_id for life in conversation if life.session_id is not None}
        if not ids:
            continue
        key = conversation[0].planned.key
        if ids != {evidence.sessions.get(key)}:
            yield f"{key} ran in {sorted(ids)}, its session is {evidence.sessions.get(key)}"
        for session_id in ids:
            if owners.setdefault(session_id, key) != key:
                yield f"{session_id} is shared by {key} and {owners[session_id]}"


def _overlaps(conversation: Sequence[Life]) -> Iterable[str]:
    ran = sorted((life for life in conversation if life.started is not None), key=lambda life: life.started or 0)
    for first, second in pairwise(ran):
        if first.ended is None or (second.started or 0) < first.ended:
            yield f"{second.planned.label} started while {first.planned.label} ran"


def _wrong_transcripts(evidence: Evidence) -> Iterable[str]:
    for session_id, messages in evidence.transcripts.items():
        for at in range(0, len(messages), 2):
            pair = messages[at : at + 2]
            expected = scripted_reply(messages[: at + 1])
            if [message["role"] for message in pair] != ["user", "assistant"] or pair[1]["content"] != expected:
                yield f"{session_id}: {pair} is not the answer to all before it"


def _out_of_order(conversation: Sequence[Life]) -> Iterable[str]:
    ran = [life for life in conversation if life.started is not None]
    for first, second in pairwise(ran):
        if (second.started or 0) < (first.started or 0):
            yield f"{second.planned.label} arrived after {first.planned.label} and ran before it"


def _wrongly_stored(evidence: Evidence, lives: Iterable[Sequence[Life]]) -> Iterable[str]:
    for conversation in lives:
        ids = dict.fromkeys(life.session_id or "" for life in conversation if life.reply is not None)
        stored = [
            [message["content"] for message in evidence.transcripts.get(session_id, ()) if message["role"] == "user"]
            for session_id in ids
        ]
        found = set(stored[0]) if stored else set[str]()
        # A client that leaves in the moment its turn is stored may be stored although its turn did not get to say so.
        expected = [
            life.planned.label
            for life in conversation
            if life.reply is not None
            or (life.started is not None and life.planned.manner != "stays" and life.planned.label in found)
        ]
        if stored != ([expected] if expected else []):
            yield f"stored {stored}, answered {expected}"


def _lost_replies(evidence: Evidence, lives: Iterable[Sequence[Life]]) -> Iterable[str]:
    said = {life.planned.label: life.reply for conversation in lives for life in conversation}
    for messages in evidence.plan:
        for planned in messages:
            outcome = evidence.outcomes[planned.label]
            if outcome.error is not None:
                yield f"{planned.label} got {outcome.error}"
            elif outcome.reply is None and planned.manner == "stays":
                yield f"{planned.label} got nothing"
            elif outcome.reply is not None and outcome.reply != said.get(planned.label):
                yield f"{planned.label} got {outcome.reply!r}, the server said {said.get(planned.label)!r}"
