"""Every snippet of the README runs, and shows what it says."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from turnlane.testing import AsgiDriver

# A programme is a process that imports much; on a busy machine that alone takes its time.
pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PROGRAMMES = [text for language, text in SNIPPETS if language == "python"]


def of_language(name: str) -> list[str]:
    return [text for language, text in SNIPPETS if language == name]


def test_every_snippet_is_of_a_kind_that_is_checked() -> None:
    """Three kinds: programmes, what the demo prints, and the one command that needs a package index."""
    assert {language for language, _ in SNIPPETS} == {"python", "text", "sh"}
    assert of_language("sh") == ["pip install turnlane\n"]
    assert len(PROGRAMMES) == 9


@pytest.mark.parametrize("number", range(len(PROGRAMMES)))
def test_a_programme_runs(number: int, tmp_path: Path) -> None:
    """By itself, in an empty directory, with warnings as errors."""
    path = tmp_path / "snippet.py"
    path.write_text(PROGRAMMES[number], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


async def test_the_ten_lines_take_turns_in_one_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two overlapping messages of one key: the same session id; another key has another."""
    found = loaded(PROGRAMMES[0], tmp_path, monkeypatch)
    async with AsgiDriver(found["app"]) as client, client.lifespan():
        requests = [client.start("POST", "/chat", headers={"x-session-key": key}) for key in ("ada", "ada", "bob")]
        answers = [(await request.response()).json() for request in requests]
    sessions = [answer["session"] for answer in answers]
    assert sessions[0] == sessions[1] != sessions[2]
    assert all(re.fullmatch(r"\d+\.\d{3} s", answer["waited"]) for answer in answers)


async def test_the_public_server_refuses_a_stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key without a principal has no lane to name."""
    found = loaded(PROGRAMMES[1], tmp_path, monkeypatch)
    async with AsgiDriver(found["app"]) as client:
        response = await client.start("POST", "/", headers={"x-session-key": "ada"}).response()
    assert (response.status, response.json()["error"]["code"]) == (400, "session_key_required")


def loaded(programme: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(directory)
    path = directory / "snippet.py"
    path.write_text(programme, encoding="utf-8")
    return runpy.run_path(str(path))


async def test_the_kept_alive_server_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting is one the middleware takes; nobody waits, so nothing is sent ahead of the app's answer."""
    found = loaded(PROGRAMMES[2], tmp_path, monkeypatch)
    async with AsgiDriver(found["app"]) as client:
        response = await client.start(
            "POST", "/", headers={"x-session-key": "ada"}, body=b'{"stream": true}'
        ).response()
    assert response.status == 404


def test_the_turn_function_says_who_was_ahead(tmp_path: Path) -> None:
    """The second call had one ahead, and a larger token."""
    path = tmp_path / "snippet.py"
    path.write_text(PROGRAMMES[3], encoding="utf-8")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=50, check=True)
    lines = re.findall(r"^(\w+): (\d) ahead on arrival, token (\d+)$", done.stdout, re.MULTILINE)
    assert [line[:2] for line in lines] == [("FIRST", "0"), ("SECOND", "1")]
    assert int(lines[0][2]) < int(lines[1][2])


def test_the_transcript_remembers(tmp_path: Path) -> None:
    """The second turn begins behind the first, and both are in the file."""
    path = tmp_path / "snippet.py"
    path.write_text(PROGRAMMES[4], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout == "I remember 0 earlier entries\nI remember 2 earlier entries\n"
    [transcript] = (tmp_path / "transcripts").glob("*.jsonl")
    assert len(transcript.read_text(encoding="utf-8").splitlines()) == 4


def masked(text: str) -> list[str]:
    """The lines of the demo without what differs from run to run: ids and the lengths of bars."""
    lines: Iterator[str] = (line.rstrip() for line in text.splitlines())
    masks = ((r"\|[^|]*\|", "|bar|"), (r"session [0-9a-f]{8}", "session id"), (r"knew \d of", "knew n of"))
    return [mask(line, masks) for line in lines if line.strip()]


def mask(line: str, masks: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in masks:
        line = re.sub(pattern, replacement, line)
    return line


@pytest.mark.sockets
def test_the_demo_prints_what_the_readme_shows() -> None:
    """Each line of the shown output is printed, in that order, and the verdict of the protected run is clean."""
    command = [sys.executable, "-m", "turnlane", "demo"]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    printed = masked(done.stdout)
    places: list[int] = []
    for line in masked(of_language("text")[0]):
        start = places[-1] + 1 if places else 0
        assert line in printed[start:], f"not printed after line {start}: {line}"
        places.append(printed.index(line, start))
    assert all(one < other for one, other in pairwise(places))


def test_the_commands_are_those_that_ci_runs() -> None:
    """Both set-up commands stand on one line each, in the words of .ci/run."""
    assert "pip install -e '.[demo]' && turnlane demo" in README
    assert "pip install -e '.[dev]' && pytest" in README
    script = ROOT / ".ci" / "run"
    if script.exists():  # not beside an installed wheel
        text = script.read_text(encoding="utf-8")
        assert "install -e '.[dev]'" in text
        assert "install -e '.[demo]'" in text
