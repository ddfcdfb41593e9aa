"""`turnlane watch` as a real process, beside real edits."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from datetime import datetime
from pathlib import Path

import pytest

from support.transcripts_scenes import append, edit_in_place, line, replace_by_rename, truncate, user
from turnlane.cli import main
from turnlane.cli.arguments import WatchSettings, parse
from turnlane.transcripts import Transcripts

pytestmark = pytest.mark.timeout(60)
Watch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def watch() -> Generator[Watch, None, None]:
    """Starts `turnlane watch`, and returns when it watches."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "turnlane", "watch", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("watching ")
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def next_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_each_edit_is_a_line_and_a_signal_ends_it(tmp_path: Path, watch: Watch, number: signal.Signals) -> None:
    """Time, file, line, kind; owned writes are not printed; status 0 and nothing on standard error."""
    transcripts, path = Transcripts(tmp_path), tmp_path / "a.jsonl"
    await transcripts.append("a", user("first"), user("second"))
    process = watch(str(tmp_path))
    await transcripts.append("a", user("third"))
    append(path)
    at, _, rest = next_line(process).partition(" ")
    assert datetime.fromisoformat(at).utcoffset() is not None
    assert rest == f"{path}:4:appended at byte {path.stat().st_size - len(line(user('by hand')))}"
    replace_by_rename(path)
    assert next_line(process).split(" ")[1].endswith(":replaced")
    path.unlink()
    assert next_line(process).endswith(f"{path}:-:deleted")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


def test_as_json_of_files_of_other_programs(tmp_path: Path, watch: Watch) -> None:
    """Appends only where asked for; directories below too; nothing is written."""
    below = tmp_path / "below"
    below.mkdir()
    path = below / "a.jsonl"
    path.write_bytes(line(user("first")) + line(user("second")))
    process = watch(str(tmp_path), "--json", "--appends", "--recursive")
    append(path)
    edit_in_place(path)
    kinds = [json.loads(next_line(process))]
    if kinds[-1]["kind"] == "appended":
        kinds.append(json.loads(next_line(process)))
    event = kinds[-1]
    assert datetime.fromisoformat(event.pop("at")).utcoffset() is not None
    assert event == {"path": str(path), "session_id": None, "kind": "edited", "offset": 0, "line": 1}
    assert [file.name for file in below.iterdir()] == ["a.jsonl"]


def test_appends_are_left_out_by_default(tmp_path: Path, watch: Watch) -> None:
    """What comes after them is not."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(line(user("first")) + line(user("second")))
    process = watch(str(tmp_path))
    append(path)
    truncate(path)
    assert next_line(process).endswith(f":truncated at byte {len(line(user('first')))}")


@pytest.mark.parametrize("kind", ["absent", "file"])
def test_what_is_no_directory_is_an_error(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2 and one line."""
    path = tmp_path / "x"
    if kind == "file":
        path.write_bytes(b"")
    assert main(["watch", str(path)]) == 2
    assert capsys.readouterr().err == f"turnlane: {path} is no directory\n"


def test_a_reader_that_has_enough_ends_it(tmp_path: Path, watch: Watch) -> None:
    """As `| head -1` does."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(line(user("first")))
    process = watch(str(tmp_path))
    assert process.stdout is not None
    process.stdout.close()
    path.unlink()
    assert process.wait(timeout=20) == 2


def test_what_is_typed_becomes_settings() -> None:
    """All of it."""
    assert parse(["watch", "x"]) == WatchSettings(directory=Path("x"))
    assert parse(["--json", "watch", "x", "--appends", "--recursive", "--state-dir", "s"]) == WatchSettings(
        directory=Path("x"), appends=True, recursive=True, state_dir=Path("s"), json=True
    )
    with pytest.raises(SystemExit) as refused:
        main(["watch"])
    assert refused.value.code == 2
