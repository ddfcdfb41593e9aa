"""The part of the demo about transcripts: it runs with real files and processes, and each check can fail."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from turnlane.cli.demo.release import ReleaseFacts, judge_release, run_release
from turnlane.cli.demo.timeline import release_lines
from turnlane.cli.style import Style

QUESTION, TOOL = "user: where is my parcel?", "tool: the parcel has arrived"
REPLY, NEXT = "assistant: Let me see: it is on its way.", "user: thank you"
APPENDED = ReleaseFacts(
    meanwhile="a second process appends to the transcript",
    changes=1,
    refused=None,
    kind=None,
    line=None,
    stored=(QUESTION, TOOL, REPLY, NEXT),
    salvaged=(),
    next_turn=3,
)
EDITED = ReleaseFacts(
    meanwhile="somebody edits the file by hand",
    changes=0,
    refused="it was edited",
    kind="edited",
    line=1,
    stored=("user: where is my package?", NEXT),
    salvaged=(REPLY,),
    next_turn=1,
)


def test_both_scenes_go_as_promised(tmp_path: Path) -> None:
    """An owned append of another process is taken in, a hand edit stops the turn, and nothing is lost."""
    appended, edited = run_release(tmp_path)
    assert appended == APPENDED
    assert replace(edited, refused="it was edited") == EDITED
    assert edited.refused is not None
    assert "turnlane repair --adopt" in edited.refused
    assert all(check.passed for check in judge_release((appended, edited)))


@pytest.mark.parametrize(
    ("scene", "planted", "broken"),
    [
        (0, {"changes": 0}, "an owned append during the model call is accepted, and the turn is told"),
        (0, {"refused": "it was"}, "an owned append during the model call is accepted, and the turn is told"),
        (0, {"stored": (QUESTION, REPLY, TOOL, NEXT)}, "the reply is stored behind it"),
        (1, {"kind": None, "line": None}, "a hand edit during the model call stops the turn, with its line"),
        (1, {"line": 2}, "a hand edit during the model call stops the turn, with its line"),
        (1, {"salvaged": ()}, "the reply that could not be stored is in the salvage"),
        (0, {"salvaged": (REPLY,)}, "the reply that could not be stored is in the salvage"),
        (1, {"next_turn": 0}, "the next turn goes on with what is there"),
    ],
)
def test_each_check_fails_on_what_breaks_it(scene: int, planted: dict[str, Any], broken: str) -> None:
    """That one and no other."""
    scenes = [APPENDED, EDITED]
    scenes[scene] = replace(scenes[scene], **planted)
    checks = judge_release((scenes[0], scenes[1]))
    assert [check.name for check in checks if not check.passed] == [broken]
    assert f"  BROKEN  {broken}" in release_lines(scenes, checks, Style())
