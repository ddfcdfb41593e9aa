"""Names that could steer a terminal or pass for another line: escaped where people read them, exact in JSON."""

import io
import json
import os
from pathlib import Path

import pytest

from support.transcripts_scenes import line, user
from turnlane.cli import main
from turnlane.cli.output import print_watch, print_watching
from turnlane.hooks import UnownedEditFound

NAMES = {
    "a colour": ("red\x1b[31m", r"red\x1b[31m"),
    "a line": ("a.jsonl:1:edited\nb", r"a.jsonl:1:edited\nb"),
    "a line back": ("seen\rhidden", r"seen\rhidden"),
    "from right to left": ("a\u202eb", r"a\u202eb"),
    "a line of Unicode": ("a\u2028b", r"a\u2028b"),
    "no UTF-8": (os.fsdecode(b"a\xffb"), r"a\udcffb"),
    "letters": ("äб漢", "äб漢"),
}


@pytest.mark.parametrize("name", NAMES)
def test_verify_and_repair_escape_a_name(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In what they found, in what they did, and in why they could not."""
    text, shown = NAMES[name]
    path = tmp_path / f"{text}.jsonl"
    path.write_bytes(line(user("from elsewhere")))
    state_dir = ["--state-dir", str(tmp_path / text)]
    (tmp_path / text).mkdir()
    assert main(["verify", str(tmp_path)]) == 1
    found, _ = capsys.readouterr().out.split("\n", 1)
    assert found.startswith(f"{tmp_path}/{shown}.jsonl:1:unknown: ")
    assert main(["--json", "verify", str(tmp_path)]) == 1
    assert json.loads(capsys.readouterr().out)["path"] == str(path)
    assert main(["repair", "--adopt", str(path), *state_dir]) == 0
    adopted = f"{tmp_path}/{shown}.jsonl: adopted what was appended\n{tmp_path}/{shown}.jsonl: 1 entries\n"
    assert capsys.readouterr().out == adopted
    assert main(["--json", "repair", "--adopt", str(path), *state_dir]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(path)
    path.unlink()
    for command in (["verify"], ["repair", "--adopt"]):
        assert main([*command, str(path)]) == 2
        (told,) = capsys.readouterr().err.splitlines()
        assert f"{shown}.jsonl" in told


@pytest.mark.parametrize("name", NAMES)
def test_watch_escapes_a_name(name: str) -> None:
    """Each change is one line."""
    text, shown = NAMES[name]
    event = UnownedEditFound(
        at=0.0, path=f"/d/{text}.jsonl", session_id=None, kind="edited", offset=7, line=2, turns=()
    )
    out = io.StringIO()
    print_watching(Path(f"/d/{text}"), 1, out)
    print_watch(event, out, as_json=False)
    assert out.getvalue() == (
        f"watching /d/{shown}, 1 transcripts; Ctrl-C ends it\n"
        f"1970-01-01T00:00:00.000+00:00 /d/{shown}.jsonl:2:edited at byte 7\n"
    )
    out = io.StringIO()
    print_watch(event, out, as_json=True)
    assert json.loads(out.getvalue())["path"] == event.path


def test_what_an_encoding_lacks_is_escaped_too() -> None:
    """A terminal of ASCII gets the line all the same."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    print_watching(Path("/d/äб"), 0, out)
    assert raw.getvalue() == rb"watching /d/\xe4\u0431, 0 transcripts; Ctrl-C ends it" + b"\n"
