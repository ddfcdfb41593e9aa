"""Judges the facts of a burst. Pure: the same facts give the same verdict, and each check can fail."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from turnlane.cli.demo.facts import MessageFacts, Moment, RunFacts

__all__ = ("Check", "judge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise and what broke it; no violation means it was kept."""

    name: str
    violations: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the promise was kept."""
        return not self.violations


def judge(facts: RunFacts) -> tuple[Check, ...]:
    """Return every check, kept or broken, always in the same order; a server without lanes has none to leave."""
    checks = CHECKS if facts.lanes_left is None else (*CHECKS, ("no lane left behind", _no_lane_left))
    return tuple(Check(name=name, violations=tuple(check(facts))) for name, check in checks)


def _number(moment: Moment | None) -> int:
    return -1 if moment is None else moment.number


def _arrived(facts: RunFacts, key: str) -> list[MessageFacts]:
    there = [message for message in facts.of_key(key) if message.arrived is not None]
    return sorted(there, key=lambda message: _number(message.arrived))


def _ran(facts: RunFacts, key: str) -> list[MessageFacts]:
    ran = [message for message in facts.of_key(key) if message.started is not None]
    return sorted(ran, key=lambda message: _number(message.started))


def _stayed(facts: RunFacts, key: str) -> list[MessageFacts]:
    return [message for message in _arrived(facts, key) if not message.leaves]


def _quoted(texts: tuple[str, ...] | None) -> str:
    return ", ".join(f'"{text}"' for text in texts or ()) or "nothing"


def _burst_overlapped(facts: RunFacts) -> list[str]:
    found = [f"{message.label} never reached the server" for message in facts.messages if message.arrived is None]
    if not facts.messages:
        found.append("there were no messages")
    for key in facts.keys:
        pairs = pairwise(_arrived(facts, key))
        if not any(first.ended is None or _number(second.arrived) < first.ended.number for first, second in pairs):
            found.append(f"{key}: no message arrived while an earlier one was unfinished; this run proves nothing")
    return found


def _one_session_id(facts: RunFacts) -> list[str]:
    found: list[str] = []
    owner: dict[str, str] = {}
    for key in facts.keys:
        ids = dict.fromkeys(m.session_id for m in _ran(facts, key) if m.session_id is not None)
        if len(ids) != 1:
            found.append(f"{key} has {len(ids)} session ids{': ' if ids else ''}{', '.join(i[:8] for i in ids)}")
        shared = [session_id for session_id in ids if owner.setdefault(session_id, key) != key]
        found += [f"session {session_id[:8]} is shared by {owner[session_id]} and {key}" for session_id in shared]
    return found


def _one_transcript(facts: RunFacts) -> list[str]:
    found: list[str] = []
    unclaimed = set(facts.transcripts)
    for key in facts.keys:
        ids = {m.session_id for m in facts.of_key(key)} & set(facts.transcripts)
        unclaimed -= ids
        if len(ids) != 1:
            found.append(f"{key} has {len(ids)} transcripts")
    found += [f"transcript {session_id[:8]} belongs to no message" for session_id in sorted(unclaimed)]
    return found


def _never_overlap(facts: RunFacts) -> list[str]:
    found: list[str] = []
    for key in facts.keys:
        running: MessageFacts | None = None
        for message in _ran(facts, key):
            if running is not None and (running.ended is None or _number(message.started) < running.ended.number):
                found.append(f"{key}: {message.label} started while {running.label} was running")
            # The one that ends last is the one later turns must not overlap.
            if running is None or message.ended is None or _later(message.ended, running.ended):
                running = message
    return found


def _later(moment: Moment, other: Moment | None) -> bool:
    return other is not None and moment.number > other.number


def _arrival_order(facts: RunFacts) -> list[str]:
    found: list[str] = []
    for key in facts.keys:
        started = [message.label for message in _ran(facts, key)]
        expected = [message.label for message in _arrived(facts, key) if message.started is not None]
        if started != expected:
            found.append(f"{key}: arrived {', '.join(expected)} but ran {', '.join(started)}")
    return found


def _saw_earlier(facts: RunFacts) -> list[str]:
    found: list[str] = []
    for key in facts.keys:
        earlier: tuple[str, ...] = ()
        for message in _stayed(facts, key):
            if message.remembered != earlier:
                found.append(
                    f"{key}: {message.label} was answered knowing {_quoted(message.remembered)}, "
                    f"said before it: {_quoted(earlier)}"
                )
            earlier = (*earlier, message.text)
    return found


def _stored_once(facts: RunFacts) -> list[str]:
    found: list[str] = []
    for key in facts.keys:
        expected = tuple(message.text for message in _stayed(facts, key))
        ids = {m.session_id for m in _ran(facts, key) if m.session_id is not None}
        stored = [facts.transcripts[session_id] for session_id in sorted(ids) if session_id in facts.transcripts]
        if stored != [expected]:
            parts = " and ".join(_quoted(texts) for texts in stored) or "nothing"
            found.append(f"{key}: stored {parts}; said {_quoted(expected)}")
    return found


def _gone_never_ran(facts: RunFacts) -> list[str]:
    found: list[str] = []
    for message in facts.messages:
        if message.leaves and message.started is not None:
            found.append(f"{message.key}: {message.label} ran although its client had hung up")
        if message.leaves and any(message.text in texts for texts in facts.transcripts.values()):
            found.append(f"{message.key}: {message.label} was stored although its client had hung up")
    return found


def _own_answer(facts: RunFacts) -> list[str]:
    found: list[str] = []
    for message in facts.messages:
        if message.leaves:
            continue
        if message.error is not None:
            found.append(f"{message.key}: {message.label} got an error: {message.error}")
        elif not message.received:
            found.append(f"{message.key}: {message.label} got no answer")
        elif message.received != message.answered:
            found.append(f"{message.key}: {message.label} got {message.received!r}, not {message.answered!r}")
    return found


def _no_lane_left(facts: RunFacts) -> list[str]:
    return [f"{facts.lanes_left} lanes are still held"] if facts.lanes_left else []


CHECKS: tuple[tuple[str, Callable[[RunFacts], list[str]]], ...] = (
    ("messages arrived while earlier ones ran", _burst_overlapped),
    ("one session id per key", _one_session_id),
    ("one transcript per key", _one_transcript),
    ("turns of a key never overlap", _never_overlap),
    ("arrival order kept", _arrival_order),
    ("each reply saw all earlier messages", _saw_earlier),
    ("every message stored once, in order", _stored_once),
    ("a message whose client hung up never ran", _gone_never_ran),
    ("every client that stayed got its own answer", _own_answer),
)
