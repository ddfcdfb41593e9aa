"""A bot loop of plain functions."""

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "integrations" / "bot_loop.py"


def test_the_example_answers_three_quick_messages_at_once(tmp_path: Path) -> None:
    """The first was alone; what was typed while it was answered is one turn, and another chat waits for none of it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(EXAMPLE.read_text().splitlines()) < 80
    lines = done.stdout.splitlines()
    assert lines[0] == "to ada: you said 'hello'"
    assert sorted(lines[1:]) == [
        "'is' is answered together with what came after it",
        "'where' is answered together with what came after it",
        "to ada: you said 'where is my parcel?'",
        "to bob: you said 'good morning'",
    ]
    assert list(tmp_path.iterdir()) == []


async def test_a_model_that_fails_does_not_end_the_loop(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log says which update is not answered; those after it are, in that chat and in others."""
    example: dict[str, Any] = runpy.run_path(str(EXAMPLE))

    async def ask_model(text: str) -> str:
        if text == "fail":
            raise RuntimeError("the model is away")
        return text

    example["main"].__globals__["ask_model"] = ask_model
    script = (0.0, "ada", "fail"), (0.05, "ada", "again"), (0.0, "bob", "hello")
    await example["main"](example["Messenger"](*script))
    assert "update 1 is not answered" in caplog.text
    assert sorted(capsys.readouterr().out.splitlines()) == ["to ada: again", "to bob: hello"]
