"""Each example runs by itself and shows what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def output_of(name: str, *, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        cwd=directory,
        env={**os.environ, "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=18,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(directory.iterdir()) == [], "an example leaves nothing behind"
    return done.stdout


def waits_ms(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"waited (\d+) ms", text)]


def test_there_is_a_test_for_every_example() -> None:
    """The tests below name every file of the folder, and none is long."""
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {"01_starlette.py", "02_fastapi.py", "03_turn_function.py", "04_openai_server.py"}
    assert {path.name for path in EXAMPLES.glob("*.py") if len(path.read_text().splitlines()) >= 80} == set()


def test_the_starlette_example_runs_one_turn_after_the_other(tmp_path: Path) -> None:
    """Alice's second message begins when her first has ended; Bob waits for nobody."""
    text = output_of("01_starlette.py", directory=tmp_path)
    order = re.findall(r"^  (.*)$", text, re.MULTILINE)
    assert order.index("hello ends") < order.index("are you there? begins")
    assert order.index("good morning begins") < order.index("hello ends")
    first, second, other = waits_ms(text)
    assert second > 100 > first
    assert other < 100
    assert "'ARE YOU THERE?'" in text


def test_the_fastapi_example_has_one_session_and_full_memory(tmp_path: Path) -> None:
    """Three overlapping messages, one session id, and the last one knows the other two."""
    text = output_of("02_fastapi.py", directory=tmp_path)
    assert len(set(re.findall(r"^session (\S+) waited", text, re.MULTILINE))) == 1
    assert "who am I? I remember ['my name is Ada', 'I live in London']" in text
    assert "session ids: 1\n" in text
    first, second, third = waits_ms(text)
    assert first < second < third


def test_the_turn_function_example_needs_no_server(tmp_path: Path) -> None:
    """Overlapping calls for one key take turns and remember; another key does not wait."""
    text = output_of("03_turn_function.py", directory=tmp_path)
    assert "who am I? I remember ['my name is Ada', 'I live in London']" in text
    assert "good morning? I remember []" in text
    assert "session ids: 2\n" in text
    first, second, third, other = waits_ms(text)
    assert first < second < third
    assert other < second


@pytest.mark.sockets
def test_the_openai_example_answers_the_second_message_with_the_first_in_mind(tmp_path: Path) -> None:
    """A message over /v1/responses that came while a chat stream ran knows what was said there."""
    text = output_of("04_openai_server.py", directory=tmp_path)
    assert 'first:  Turn 1. You said "my name is Ada". I remember nothing before it.' in text
    assert 'second: Turn 2. You said "who am I?". I remember 1 earlier message: "my name is Ada".' in text
