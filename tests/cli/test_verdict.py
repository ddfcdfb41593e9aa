"""The verdict on a burst: each promise can be broken, and a broken one is named."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from cli.planted import healthy_run, moment, with_message, with_transcripts
from turnlane.cli.demo.facts import RunFacts
from turnlane.cli.demo.verdict import judge

OVERLAPPED = "messages arrived while earlier ones ran"
ONE_ID = "one session id per key"
ONE_TRANSCRIPT = "one transcript per key"
NO_OVERLAP = "turns of a key never overlap"
ORDER = "arrival order kept"
SAW = "each reply saw all earlier messages"
STORED = "every message stored once, in order"
GONE = "a message whose client hung up never ran"
ANSWERED = "every client that stayed got its own answer"
NO_LANE = "no lane left behind"

Plant = Callable[[RunFacts], RunFacts]


def broken(facts: RunFacts) -> dict[str, tuple[str, ...]]:
    return {check.name: check.violations for check in judge(facts) if not check.passed}


def test_a_healthy_run_breaks_nothing() -> None:
    """Facts in which everything went right pass every check, and all ten are made."""
    assert broken(healthy_run()) == {}
    assert len(judge(healthy_run())) == 10


def test_a_server_without_lanes_is_not_credited_for_leaving_none() -> None:
    """Where there are no lanes, the check on them is not made at all."""
    names = [check.name for check in judge(replace(healthy_run(), lanes_left=None))]
    assert NO_LANE not in names
    assert len(names) == 9


def second_id(facts: RunFacts) -> RunFacts:
    return with_message(facts, "a-3", session_id="another")


def shared_id(facts: RunFacts) -> RunFacts:
    return with_message(with_message(facts, "b-1", session_id="session-of-a"), "b-2", session_id="session-of-a")


def never_overlapping_arrivals(facts: RunFacts) -> RunFacts:
    return with_message(facts, "b-2", arrived=moment(15))


def swapped_start(facts: RunFacts) -> RunFacts:
    facts = with_message(facts, "b-2", started=moment(6), ended=moment(9))
    return with_message(facts, "b-1", started=moment(10), ended=moment(14))


PLANTED: tuple[tuple[str, Plant, str], ...] = (
    (OVERLAPPED, lambda f: replace(f, messages=(), transcripts={}), "no messages"),
    (OVERLAPPED, lambda f: with_message(f, "a-2", arrived=None), "a-2 never reached"),
    (OVERLAPPED, never_overlapping_arrivals, "b: no message arrived"),
    (ONE_ID, second_id, "a has 2 session ids"),
    (ONE_ID, lambda f: with_message(with_message(f, "b-1", session_id=None), "b-2", session_id=None), "b has 0"),
    (ONE_ID, shared_id, "shared by a and b"),
    (
        ONE_TRANSCRIPT,
        lambda f: with_transcripts(second_id(f), {**f.transcripts, "another": ("three",)}),
        "a has 2 transcripts",
    ),
    (ONE_TRANSCRIPT, lambda f: with_transcripts(f, {"session-of-a": ("one", "three")}), "b has 0 transcripts"),
    (ONE_TRANSCRIPT, lambda f: with_transcripts(f, {**f.transcripts, "stray": ()}), "stray belongs to no message"),
    (NO_OVERLAP, lambda f: with_message(f, "a-3", started=moment(9)), "a-3 started while a-1"),
    (NO_OVERLAP, lambda f: with_message(f, "a-1", ended=None), "a-3 started while a-1"),
    (ORDER, swapped_start, "arrived b-1, b-2 but ran b-2, b-1"),
    (SAW, lambda f: with_message(f, "a-3", remembered=()), "a-3 was answered knowing nothing"),
    (SAW, lambda f: with_message(f, "a-3", remembered=("one", "two")), '"one", "two"'),
    (SAW, lambda f: with_message(f, "b-2", remembered=("one",)), 'b-2 was answered knowing "one"'),
    (SAW, lambda f: with_message(f, "b-2", remembered=None), "b-2 was answered knowing nothing"),
    (STORED, lambda f: with_transcripts(f, {**f.transcripts, "session-of-a": ("three", "one")}), "a: stored"),
    (STORED, lambda f: with_transcripts(f, {**f.transcripts, "session-of-b": ("uno",)}), "b: stored"),
    (STORED, lambda f: with_transcripts(f, {**f.transcripts, "session-of-b": ("uno", "due", "due")}), "b: stored"),
    (GONE, lambda f: with_message(f, "a-2", started=moment(11)), "a-2 ran although"),
    (
        GONE,
        lambda f: with_transcripts(f, {**f.transcripts, "session-of-a": ("one", "two", "three")}),
        "a-2 was stored although",
    ),
    (ANSWERED, lambda f: with_message(f, "b-1", received="answer to one"), "b-1 got 'answer to one'"),
    (ANSWERED, lambda f: with_message(f, "b-1", received=None), "b-1 got no answer"),
    (ANSWERED, lambda f: with_message(f, "b-1", received="", answered=""), "b-1 got no answer"),
    (ANSWERED, lambda f: with_message(f, "b-1", received=None, error="503 draining"), "503 draining"),
    (NO_LANE, lambda f: replace(f, lanes_left=2), "2 lanes"),
)


@pytest.mark.parametrize(("check", "plant", "said"), PLANTED)
def test_a_planted_violation_is_found(check: str, plant: Plant, said: str) -> None:
    """Each kind of violation breaks the promise it belongs to, and the text says which message or key."""
    found = broken(plant(healthy_run()))
    assert check in found
    assert any(said in violation for violation in found[check]), found[check]


def test_a_turn_overlapping_one_before_the_last_is_found() -> None:
    """A long turn is not forgotten because a shorter one that started later has ended."""
    facts = with_message(healthy_run(), "a-1", ended=moment(30))
    facts = with_message(facts, "a-2", leaves=False, started=moment(5), ended=moment(7), session_id="session-of-a")
    overlapping = broken(facts)[NO_OVERLAP]
    assert overlapping == (
        "a: a-2 started while a-1 was running",
        "a: a-3 started while a-1 was running",
    )
