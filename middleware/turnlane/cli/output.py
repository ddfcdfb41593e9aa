"""Prints what the commands return, as text or as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from turnlane.cli.commands import DemoReport, JudgedRelease, JudgedRun, VersionReport
from turnlane.cli.style import Style, printable
from turnlane.cli.transcripts import RepairReport
from turnlane.hooks import UnownedEditFound
from turnlane.transcripts.inspection import Inspection

if TYPE_CHECKING:
    from turnlane.cli.demo.verdict import Check

__all__ = (
    "DEMO_SCHEMA",
    "demo_document",
    "print_demo",
    "print_demo_json",
    "print_failure",
    "print_repair",
    "print_try_it",
    "print_verify",
    "print_version",
    "print_watch",
    "print_watching",
)

DEMO_SCHEMA = 1
"""Grows when a member of the JSON facts is removed or changes its meaning."""


def print_version(report: VersionReport, out: TextIO, *, as_json: bool) -> None:
    """Print one line, or a JSON object."""
    if as_json:
        print(json.dumps(asdict(report)), file=out)
    else:
        print(f"turnlane {report.turnlane} (Python {report.python})", file=out)


def demo_document(report: DemoReport) -> Mapping[str, Any]:
    """Return the facts and the verdict of both runs as plain values."""
    return {
        "schema": DEMO_SCHEMA,
        "seconds": round(report.seconds, 3),
        "passed": report.passed,
        "runs": [_run_document(report.unprotected), _run_document(report.protected)],
        "release": None if report.release is None else _release_document(report.release),
    }


def _run_document(run: JudgedRun) -> Mapping[str, Any]:
    return {**asdict(run.facts), "checks": _check_documents(run.checks)}


def _release_document(release: JudgedRelease) -> Mapping[str, Any]:
    return {"scenes": [asdict(scene) for scene in release.scenes], "checks": _check_documents(release.checks)}


def _check_documents(checks: "Sequence[Check]") -> list[Mapping[str, Any]]:
    return [{"name": c.name, "passed": c.passed, "violations": list(c.violations)} for c in checks]


def print_demo_json(report: DemoReport, out: TextIO) -> None:
    """Print the facts."""
    print(json.dumps(demo_document(report), indent=2), file=out, flush=True)


def print_demo(report: DemoReport, out: TextIO, style: Style) -> None:
    """Print timeline and verdict of both runs."""
    # Not at module level: these modules speak about the demo, not about the command line.
    from turnlane.cli.demo.timeline import legend_line, release_lines, run_lines, summary_line

    runs = (report.unprotected, report.protected)
    lines = [legend_line(style), ""]
    for run in runs:
        lines += [*run_lines(run.facts, run.checks, style), ""]
    judged = [(run.facts.name, run.checks) for run in runs]
    if report.release is not None:
        lines += [*release_lines(report.release.scenes, report.release.checks, style), ""]
        judged.append(("transcripts", report.release.checks))
    lines.append(summary_line(judged, report.seconds, style))
    if report.directory is not None:
        lines.append(printable(f"transcripts: {report.directory}", out))
    print("\n".join(lines), file=out, flush=True)


def print_try_it(url: str, out: TextIO) -> None:
    """Print what to send to the running server."""
    lines = [
        "",
        f"The protected server runs at {url} until Ctrl-C. Send two messages of one conversation at once:",
        "",
        *_curl(url, "my name is Ada", " &"),
        *_curl(url, "what is my name?", "; wait"),
        "",
        "The conversations of the burst go on under the keys agent:main:ada, agent:main:alan, agent:main:grace.",
    ]
    print("\n".join(lines), file=out, flush=True)


def print_verify(found: Sequence[Inspection], out: TextIO, *, as_json: bool) -> None:
    """Print `file:line:kind` for each thing to settle, and how many transcripts were looked at."""
    for each in found:
        if as_json:
            print(json.dumps(_inspection_document(each)), file=out)
            continue
        for line, kind, detail in _to_settle(each):
            _say(f"{each.path}:{line}:{kind}{detail}", out)
    if not as_json:
        well = sum(each.is_well for each in found)
        busy = sum(each.busy for each in found)
        more = f", {busy} being written" if busy else ""
        print(f"{len(found)} transcripts, {well} as their journals say{more}", file=out)


def _to_settle(each: Inspection) -> list[tuple[int, str, str]]:
    found: list[tuple[int, str, str]] = []
    if each.finding is not None:
        expected, there = each.finding.expected_words, each.finding.found_words
        advice = "" if each.advice is None else f"; {each.advice}"
        found.append((each.finding.line or 1, each.finding.kind, f": {there} instead of {expected}{advice}"))
    if each.corrupt is not None:
        found.append((each.corrupt.line, "corrupt", f": {each.corrupt.reason}"))
    if each.trouble is not None:
        found.append((1, "unreadable", f": {each.trouble}"))
    if each.unfinished:
        found.append((1, "unfinished", ": a write has begun that was not ended; the next one to write settles it"))
    if each.busy:
        found.append((1, "busy", ": an owned write goes on, so it is not judged; look again when that has ended"))
    return found


def _inspection_document(each: Inspection) -> Mapping[str, Any]:
    return {
        "path": each.path,
        "session_id": each.session_id,
        "entries": each.entries,
        "version": each.version,
        "token": each.token,
        "well": each.is_well,
        "findings": [{"line": line, "kind": kind} for line, kind, _ in _to_settle(each)],
        "advice": each.advice,
    }


def print_watching(directory: Path, files: int, out: TextIO) -> None:
    """Say that it has begun."""
    _say(f"watching {directory}, {files} transcripts; Ctrl-C ends it", out)


def print_watch(event: UnownedEditFound, out: TextIO, *, as_json: bool) -> None:
    """Print one line: when, `file:line:kind`, and the byte; or a JSON object."""
    at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds")
    if as_json:
        facts = asdict(event)
        facts.pop("turns")  # those of another process are not known
        print(json.dumps({**facts, "at": at}), file=out, flush=True)
        return
    place = "" if event.offset is None else f" at byte {event.offset}"
    line = "-" if event.line is None else event.line
    _say(f"{at} {event.path}:{line}:{event.kind}{place}", out)


def print_repair(report: RepairReport, out: TextIO, *, as_json: bool) -> None:
    """Print what was settled."""
    if as_json:
        print(json.dumps(asdict(report)), file=out)
        return
    if report.salvaged is not None:
        _say(f"{report.path}: the tail is in {report.salvaged}", out)
    if report.adopted is not None:
        _say(f"{report.path}: adopted what was {report.adopted}", out)
    if report.token_before is not None:
        _say(f"{report.path}: the highest token was {report.token_before}", out)
    _say(f"{report.path}: {'-' if report.entries is None else report.entries} entries", out)


def print_failure(error: Exception, out: TextIO) -> None:
    """Print why a command could not do what was asked."""
    _say(f"turnlane: {error}", out)


def _say(line: str, out: TextIO) -> None:
    print(printable(line, out), file=out, flush=True)


def _curl(url: str, text: str, end: str) -> list[str]:
    body = json.dumps({"model": "demo", "stream": True, "messages": [{"role": "user", "content": text}]})
    return [
        f"  curl -sN {url}/v1/chat/completions -H 'content-type: application/json' \\",
        "    -H 'x-openclaw-session-key: agent:main:me' \\",
        f"    -d '{body}'{end}",
    ]
