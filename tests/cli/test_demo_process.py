"""`python -m turnlane demo` as people run it: a process, its output, its exit status, and what it leaves behind."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from turnlane.cli.demo.host import LoopbackServer
from turnlane.cli.demo.log import TurnLog
from turnlane.cli.demo.model import ScriptedModel
from turnlane.cli.demo.server import create_app
from turnlane.cli.demo.storage import ConversationStorage

pytestmark = [pytest.mark.sockets, pytest.mark.timeout(60)]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Generator[Start, None, None]:
    """Start `python -m turnlane` with a temporary directory of its own; whatever still runs at the end is killed."""
    processes: list[subprocess.Popen[str]] = []
    (tmp_path / "temporary").mkdir()

    def start(
        *arguments: str, environment: Mapping[str, str] | None = None, warnings: tuple[str, ...] = ("error",)
    ) -> "subprocess.Popen[str]":
        options = [part for each in warnings for part in ("-W", each)]
        process = subprocess.Popen(
            [sys.executable, *options, "-m", "turnlane", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path / "temporary"), **(environment or {})},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_the_demo_shows_both_runs_and_exits(start: Start, tmp_path: Path) -> None:
    """Status 0, a verdict of each run, nothing on standard error, nothing left in the temporary directory."""
    out, err = (process := start("demo", "--delay", "0.03")).communicate(timeout=50)
    assert (process.returncode, err) == (0, "")
    assert "WITHOUT turnlane" in out
    assert "protected: 10 of 10 promises kept" in out
    assert "transcripts: 5 of 5 promises kept" in out
    assert list((tmp_path / "temporary").iterdir()) == []


def test_an_upstream_answers_when_the_environment_names_one(start: Start, tmp_path: Path) -> None:
    """With OPENAI_BASE_URL the replies come from there, and the protected run keeps its promises all the same."""
    upstream = create_app(ScriptedModel(delay=0.03), ConversationStorage(tmp_path / "upstream"))
    with LoopbackServer(upstream) as server:
        environment = {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_MODEL": "small"}
        out, err = (process := start("demo", "--json", environment=environment)).communicate(timeout=50)
    assert (process.returncode, err) == (0, "")
    document = json.loads(out)
    assert [run["model"] for run in document["runs"]] == ["small", "small"]
    # That upstream sees no session key: each reply is a first turn to it, whatever the history sent along.
    replies = [message["received"] for message in document["runs"][1]["messages"] if not message["leaves"]]
    assert all(reply.startswith("Turn 1. You said") for reply in replies)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent to the process by number")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_served_demo_ends_cleanly_on_a_signal(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    """It answers what the printed line sends, then ends: status 0, no traceback, port free, files gone."""
    process = start("demo", "--serve", "--delay", "0.03")
    assert process.stdout is not None
    url = next(line.split()[2] for line in process.stdout if line.startswith("  curl "))
    body = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()
    headers = {"content-type": "application/json", "x-openclaw-session-key": "agent:main:ada"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data=body, headers=headers), timeout=10) as response:
        reply = json.load(response)["choices"][0]["message"]["content"]
    assert reply.startswith('Turn 5. You said "hello".')
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert list((tmp_path / "temporary").iterdir()) == []
    with closing(socket.socket()) as probe:
        assert probe.connect_ex(("127.0.0.1", int(url.split(":")[2].split("/")[0]))) != 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent to the process by number")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_running_demo_ends_cleanly_on_a_signal(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    """In the middle of the burst: status 130, no traceback, nothing left behind."""
    # The demo's turns ask this server for their words: the first to arrive shows that the burst is on its way.
    log = TurnLog()
    app = create_app(ScriptedModel(delay=0.2), ConversationStorage(tmp_path / "upstream"), log=log)
    with LoopbackServer(app) as server:
        # Clients of the lowest versions leave a connection open whose request is cut off.
        warnings = ("error", "ignore::ResourceWarning")
        process = start("demo", environment={"OPENAI_BASE_URL": f"{server.url}/v1"}, warnings=warnings)
        asyncio.run(log.noted("started", "", timeout=30))
        process.send_signal(number)
        out, err = process.communicate(timeout=40)
    assert (process.returncode, out, err) == (130, "", "")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_port_in_use_is_told_before_anything_runs(start: Start) -> None:
    """Status 2 and one line, at once: no run is made first."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        out, err = (process := start("demo", "--port", str(port), "--delay", "10")).communicate(timeout=20)
    assert (process.returncode, out) == (2, "")
    assert err.startswith(f"turnlane: port {port} on 127.0.0.1 can not be taken")
    assert err.count("\n") == 1


def test_a_model_that_answers_nothing_is_no_broken_promise(start: Start) -> None:
    """Status 2 and one line that names the model, where nobody listens at OPENAI_BASE_URL."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        out, err = (process := start("demo", environment={"OPENAI_BASE_URL": url})).communicate(timeout=50)
    assert (process.returncode, out) == (2, "")
    assert err == "turnlane: the model 'gpt-4o-mini' answered no message (see OPENAI_BASE_URL): Connection error.\n"


MISSING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from turnlane.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "openai"])
def test_a_missing_extra_is_one_line(package: str) -> None:
    """Status 2 and what to install; commands that do not need it go on working."""
    command = [sys.executable, "-c", MISSING, package]
    refused = subprocess.run([*command, "demo"], capture_output=True, text=True, timeout=30, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"turnlane: turnlane demo needs the package '{package}': pip install 'turnlane[demo]'\n"
    worked = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=30, check=False)
    assert (worked.returncode, worked.stderr) == (0, "")


def test_a_port_in_use_is_one_line(start: Start) -> None:
    """Status 2, and the port is named."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        out, err = (process := start("demo", "--delay", "0", "--port", str(port))).communicate(timeout=40)
    assert (process.returncode, out) == (2, "")
    assert err.startswith(f"turnlane: port {port} on 127.0.0.1 can not be taken")
    assert err.count("\n") == 1


def test_a_reader_that_stops_reading_ends_it_quietly(start: Start) -> None:
    """`turnlane demo | head -1` prints no traceback."""
    process = start("demo", "--delay", "0.01")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 2
