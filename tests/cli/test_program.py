"""What the command line accepts, prints and exits with."""

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from cli.planted import healthy_run, with_message
from turnlane.cli import commands, main
from turnlane.cli.arguments import DemoSettings, VersionSettings, build_parser, parse
from turnlane.cli.commands import DemoReport, JudgedRelease, JudgedRun
from turnlane.cli.demo.facts import RunFacts
from turnlane.cli.demo.verdict import Check, judge


def judged(facts: RunFacts) -> JudgedRun:
    return JudgedRun(facts=facts, checks=judge(facts))


def broken_run() -> RunFacts:
    return with_message(healthy_run(), "a-3", session_id="another")


def interrupted() -> None:
    raise KeyboardInterrupt


Planting = Callable[..., None]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planting:
    """Let the command return given facts instead of running servers."""

    def plant(
        *,
        protected: RunFacts,
        unprotected: RunFacts,
        wait: Callable[[], None] = interrupted,
        release: JudgedRelease | None = None,
    ) -> None:
        @contextmanager
        def demo(settings: DemoSettings) -> Generator[DemoReport, None, None]:
            yield DemoReport(
                unprotected=judged(unprotected),
                protected=judged(protected),
                release=release,
                seconds=6.0,
                url="http://127.0.0.1:1",
                directory=settings.directory,
                wait=wait,
            )

        monkeypatch.setattr(commands, "demo", demo)

    return plant


def test_a_violation_of_the_protected_run_is_the_exit_status(planted: Planting) -> None:
    """1 when the protected run broke a promise, whatever the other did."""
    planted(protected=broken_run(), unprotected=broken_run())
    assert main(["demo"]) == 1
    assert main(["demo", "--json"]) == 1


def test_a_violation_of_the_transcripts_is_the_exit_status_too(
    planted: Planting, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is printed, and in the JSON facts."""
    release = JudgedRelease(scenes=(), checks=(Check(name="it holds", violations=("it did not",)),))
    planted(protected=healthy_run(), unprotected=broken_run(), release=release)
    assert main(["demo", "--no-color"]) == 1
    assert "transcripts: 0 of 1 promises kept" in capsys.readouterr().out
    assert main(["demo", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["release"]["checks"] == [{"name": "it holds", "passed": False, "violations": ["it did not"]}]
    assert not document["passed"]


def test_violations_of_the_unprotected_run_are_expected(planted: Planting, capsys: pytest.CaptureFixture[str]) -> None:
    """0 when the protected run kept everything; both verdicts are printed."""
    planted(protected=healthy_run(), unprotected=broken_run())
    assert main(["demo", "--no-color"]) == 0
    text = capsys.readouterr().out
    assert "BROKEN  one session id per key" in text
    assert "protected: 10 of 10 promises kept" in text
    assert "\x1b" not in text


def test_json_holds_the_facts_and_the_verdict(planted: Planting, capsys: pytest.CaptureFixture[str]) -> None:
    """One document with a schema number; every member of the facts is there under its own name."""
    planted(protected=healthy_run(), unprotected=broken_run())
    assert main(["demo", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"schema", "seconds", "passed", "runs", "release"}
    assert document["release"] is None
    assert (document["schema"], document["passed"]) == (1, True)
    unprotected, protected = document["runs"]
    assert set(protected) == {"name", "model", "seconds", "messages", "transcripts", "lanes_left", "checks"}
    assert set(protected["messages"][0]) == {
        *("label", "key", "text", "api", "stream", "leaves", "arrived", "started", "ended", "returned"),
        *("session_id", "remembered", "answered", "received", "error"),
    }
    assert protected["messages"][0]["arrived"] == {"number": 0, "at": 0.0}
    broken = [check["name"] for check in unprotected["checks"] if not check["passed"]]
    assert "one session id per key" in broken


def test_serving_ends_with_ctrl_c_and_keeps_the_verdict(planted: Planting, capsys: pytest.CaptureFixture[str]) -> None:
    """The curl lines are printed, beside the JSON too, where they do not disturb it."""
    planted(protected=healthy_run(), unprotected=broken_run())
    assert main(["demo", "--serve"]) == 0
    assert "curl -sN http://127.0.0.1:1/v1/chat/completions" in capsys.readouterr().out
    assert main(["demo", "--serve", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["passed"]
    assert "curl" in captured.err
    planted(protected=broken_run(), unprotected=broken_run())
    assert main(["demo", "--serve"]) == 1


def test_the_transcripts_are_where_the_user_said(
    planted: Planting, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The directory is printed when it stays."""
    planted(protected=healthy_run(), unprotected=broken_run())
    assert main(["demo", "--directory", str(tmp_path)]) == 0
    assert f"transcripts: {tmp_path}" in capsys.readouterr().out


def test_a_directory_that_is_not_empty_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What an earlier run stored would be remembered; a file is no directory either."""
    (tmp_path / "file").write_text("kept")
    assert main(["demo", "--directory", str(tmp_path)]) == 2
    assert main(["demo", "--directory", str(tmp_path / "file")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "is not empty" in lines[0]
    assert "can not be used" in lines[1]
    assert (tmp_path / "file").read_text() == "kept"


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    """As text and as JSON."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"turnlane {version('turnlane')} (Python 3.")
    assert main(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["turnlane"] == version("turnlane")


def test_no_command_prints_help_and_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, help on standard error."""
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: turnlane")


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["demo", "--port", "65536"], ["demo", "--port", "-1"], ["demo", "--delay", "nan"]]
)
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2 and one line that names the argument."""
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


def test_arguments_become_settings() -> None:
    """Everything that can be typed arrives."""
    assert parse(["--version"]) == VersionSettings()
    assert parse(["demo"]) == DemoSettings()
    assert parse(["--json", "demo"]) == DemoSettings(json=True)
    typed = ["demo", "--serve", "--port", "8123", "--directory", "there", "--delay", "0", "--json", "--no-color"]
    assert parse(typed) == DemoSettings(
        serve=True, port=8123, directory=Path("there"), delay=0.0, json=True, no_color=True
    )


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["watch", "--help"]])
def test_help_documents_the_exit_status(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every command's help says what its exit status means."""
    with pytest.raises(SystemExit) as done:
        build_parser().parse_args(arguments)
    assert done.value.code == 0
    text = capsys.readouterr().out
    for code in ("0  ", "1  ", "2  ", "130  "):
        assert f"\n  {code}" in text
