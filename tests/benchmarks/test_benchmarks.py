"""The benchmarks run and print their rows; what they measure is judged by people, or by `--check`."""

import sys

import pytest
from starlette.types import Scope, Send

from benchmarks import (
    engines,
    handoff,
    keepalive,
    memory,
    middleware,
    monitor,
    principals,
    server,
    shared_locks,
    transcripts,
)
from benchmarks.ladder import STEPS
from benchmarks.report import LOOPS, Limit, Options, Programme, Report, main

# No time is asserted here, this one included.
pytestmark = pytest.mark.timeout(120)

ONE_LOOP = ("--quick", "--loop", "asyncio")


def printed_by(programme: Programme, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a programme with tiny counts; return what it prints."""
    assert main({"": programme}, arguments) == 0
    return capsys.readouterr().out


def limits_in(printed: str) -> list[str]:
    return [line for line in printed.partition("limits:")[2].splitlines() if line.startswith(("  OK ", "  OVER "))]


def test_each_middleware_and_each_step_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """The added times of all variants with both kinds of keys, and the line by line table."""
    printed = printed_by(middleware.benchmark, capsys, *ONE_LOOP)
    for name in (*middleware.compared(), *middleware.ONLY_IN_STARLETTE, *STEPS):
        assert f"\n  {name} " in printed
    assert len(limits_in(printed)) == 12


async def test_the_steps_serve_requests() -> None:
    """Each step calls its app once for each request and lets go of its lane, so that none is measured doing nothing."""
    for name, step in STEPS.items():
        served: list[object] = []

        async def app(scope: Scope, _: object, send: Send, served: list[object] = served) -> None:
            served.append(scope)
            await send({"type": "http.response.start", "status": 200, "headers": []})

        rung = step(app)
        await rung.bind()
        for scope in middleware.scopes(iter([1, 1]), 2):
            await rung(scope, middleware.receive, middleware.send)
        assert len(served) == 2, name
        assert not rung.holders, name
        assert not rung.gate.table.holders, name


def test_each_size_of_line_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Hand-offs, the last one leaving, all leaving: lanes beside the lock."""
    printed = printed_by(handoff.benchmark, capsys, "--quick")
    assert printed.count("\n  10 waiters ") == printed.count("\n  100 waiters ") == 3 * len(LOOPS)
    assert len(limits_in(printed)) == 5 * len(LOOPS)


@pytest.mark.sockets
@pytest.mark.timeout(300)  # 12 processes
@pytest.mark.skipif(sys.platform == "win32", reason="lanes in a directory are POSIX")
def test_each_kind_of_shared_lock_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """In one process and over several; whatever the times, lanes are granted in order, by two commands to Redis."""
    printed = printed_by(engines.benchmark, capsys, *ONE_LOOP)
    for name in (*shared_locks.KINDS, *shared_locks.BARE):
        assert f"\n  {name} " in printed
    limits = limits_in(printed)
    assert len(limits) == 7 + len(shared_locks.OURS)
    exact = [line for line in limits if "order breaks" in line or "commands of a turn" in line]
    assert len(exact) == 1 + len(shared_locks.OURS)
    assert all(line.startswith("  OK ") for line in exact)


def test_order_is_judged_by_the_numbers_of_those_that_waited() -> None:
    """A later number before an earlier one is a break; one that did not wait has none."""
    figures = engines.Figures()
    figures.judge([0, 3, 5, 4, 0, 7])
    assert (figures.breaks, figures.granted) == (1, 4)


def test_memory_is_measured_in_processes(capsys: pytest.CaptureFixture[str]) -> None:
    """What is retained, what a held key takes, what a waiter takes."""
    printed = printed_by(memory.benchmark, capsys, "--quick")
    for name in ("a lane: turn and table entry", "request in LaneMiddleware", "a task and a future", "Lanes.turn()"):
        assert f"\n  {name}" in printed
    assert len(limits_in(printed)) == 4


@pytest.mark.sockets
def test_a_server_is_loaded_and_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    """Processor time and latencies of a real server; its processes end with the programme."""
    printed = printed_by(server.benchmark, capsys, "--quick", "--loop", LOOPS[-1])
    assert printed.count(f"\n  {server.LANE} ") == 2
    assert len(limits_in(printed)) == 2


@pytest.mark.sockets
def test_one_principal_waits_while_another_hammers(capsys: pytest.CaptureFixture[str]) -> None:
    """Each load has a row for each variant; who hammers was answered, and without caps its keys fill the slots."""
    printed = printed_by(principals.benchmark, capsys, *ONE_LOOP)
    for name in principals.LOADS:
        rows = [row.split() for row in printed.splitlines() if row.startswith(f"  {name}  ")]
        assert len(rows) == len(principals.VARIANTS)
        assert all((float(row[-1]) > 0) == (name != principals.QUIET) for row in rows)
    assert len(limits_in(printed)) == 6


@pytest.mark.sockets
@pytest.mark.timeout(60)
def test_a_line_of_streams_is_kept_alive(capsys: pytest.CaptureFixture[str]) -> None:
    """With it comment lines are sent to everybody who waits, without it none."""
    printed = printed_by(keepalive.benchmark, capsys, *ONE_LOOP)
    lines = {row.split("  ")[1]: row.split()[-2] for row in printed.splitlines() if "keep-alive " in row}
    sent = str(keepalive.BEATS * keepalive.QUICK_WAITERS)
    assert lines == {"no keep-alive": "0", "keep-alive": sent}
    assert len(limits_in(printed)) == 1


def test_appends_and_releases_are_measured_by_size(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside what others do to append a line; and appends of turns that are noted, in each kind of store."""
    printed = printed_by(transcripts.benchmark, capsys, "--quick")
    for name in ("os.write and fstat", "filelock around os.write", "transcript.append", "release and return"):
        assert f"\n  {name} " in printed
    for name in transcripts.NOTED_AT_MOST:
        assert f"\n  {name} " in printed
    assert len(limits_in(printed)) == 5


def test_a_monitor_is_timed_and_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """How soon it tells of each kind of edit, and what it takes at rest."""
    printed = printed_by(monitor.benchmark, capsys, "--quick")
    for name in (*monitor.KINDS, "all", "percent of a core without a monitor"):
        assert f"\n  {name} " in printed
    assert len(limits_in(printed)) == 3


@pytest.mark.parametrize(("found", "status", "verdict"), [(1.5, 0, "OK"), (1.51, 1, "OVER")])
def test_a_limit_decides_the_status_only_when_asked(
    found: float, status: int, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` makes an exceeded limit the exit status; each ratio is printed beside its limit either way."""

    def programme(report: Report, _: Options) -> None:
        report.limit("this / that", found, 1.5)

    assert main({"": programme}, ["--check"]) == status
    assert main({"": programme}, []) == 0
    assert str(Limit("this / that", found, 1.5)) in capsys.readouterr().out
    assert str(Limit("this / that", found, 1.5)).split()[0] == verdict
