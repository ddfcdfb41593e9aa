"""The burst on real sockets: what goes wrong without lanes, and that nothing does with them."""

from pathlib import Path

import pytest

from turnlane.cli.demo.burst import BURST
from turnlane.cli.demo.facts import RunFacts
from turnlane.cli.demo.model import ScriptedModel
from turnlane.cli.demo.run import protected_run, unprotected_run
from turnlane.cli.demo.verdict import judge

pytestmark = pytest.mark.sockets

# Long enough for a whole burst to arrive while a first turn runs, also on a busy machine.
DELAY = 0.03


def broken(facts: RunFacts) -> set[str]:
    return {check.name for check in judge(facts) if not check.passed}


def test_without_lanes_the_burst_breaks_the_conversations(tmp_path: Path) -> None:
    """Several ids and transcripts per key, overlapping turns, replies without history: the problem is real."""
    with unprotected_run(ScriptedModel(delay=DELAY), tmp_path) as run:
        facts = run.facts
    # The order of turns that run side by side is nobody's: it may be that of their arrival.
    assert broken(facts) - {"arrival order kept"} == {
        "one session id per key",
        "one transcript per key",
        "turns of a key never overlap",
        "each reply saw all earlier messages",
        "every message stored once, in order",
        "a message whose client hung up never ran",
    }
    second = next(message for message in facts.messages if message.label == "ada-2")
    assert second.received == 'Turn 1. You said "I live in London". I remember nothing before it.'


def test_with_lanes_every_promise_is_kept(tmp_path: Path) -> None:
    """The same burst at the same server with the middleware: one id, one transcript, full memory, no lane left."""
    with protected_run(ScriptedModel(delay=DELAY), tmp_path) as run:
        facts = run.facts
    assert broken(facts) == set()
    last = next(message for message in facts.messages if message.label == "ada-4")
    assert last.received == (
        'Turn 4. You said "who am I?". I remember 3 earlier messages: '
        '"my name is Ada", "I live in London", "I write programs".'
    )
    assert facts.lanes_left == 0


def test_the_server_goes_on_inside_the_block_and_frees_its_port(tmp_path: Path) -> None:
    """`--serve` relies on the one, the next run on the other."""
    with protected_run(ScriptedModel(delay=0), tmp_path, plan=BURST[:2]) as run:
        assert "running" in repr(run.server)
        port = run.server.port
    assert "stopped" in repr(run.server)
    with protected_run(ScriptedModel(delay=0), tmp_path, plan=BURST[:1], port=port) as again:
        assert again.server.port == port
        # The same directory: the session went on where it was.
        assert again.facts.messages[0].remembered == ("my name is Ada", "I live in London")
