"""Prints what the commands return, as text or as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TextIO

from turnlane.cli.commands import DemoReport, JudgedRun, VersionReport
from turnlane.cli.style import Style

__all__ = ("DEMO_SCHEMA", "demo_document", "print_demo", "print_demo_json", "print_try_it", "print_version")

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
        "passed": report.protected.passed,
        "runs": [_run_document(report.unprotected), _run_document(report.protected)],
    }


def _run_document(run: JudgedRun) -> Mapping[str, Any]:
    checks = [{"name": c.name, "passed": c.passed, "violations": list(c.violations)} for c in run.checks]
    return {**asdict(run.facts), "checks": checks}


def print_demo_json(report: DemoReport, out: TextIO) -> None:
    """Print the facts."""
    print(json.dumps(demo_document(report), indent=2), file=out, flush=True)


def print_demo(report: DemoReport, out: TextIO, style: Style) -> None:
    """Print timeline and verdict of both runs."""
    # Not at module level: these modules speak about the demo, not about the command line.
    from turnlane.cli.demo.timeline import legend_line, run_lines, summary_line

    runs = (report.unprotected, report.protected)
    lines = [legend_line(style), ""]
    for run in runs:
        lines += [*run_lines(run.facts, run.checks, style), ""]
    lines.append(summary_line([(run.facts.name, run.checks) for run in runs], report.seconds, style))
    if report.directory is not None:
        lines.append(f"transcripts: {report.directory}")
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


def _curl(url: str, text: str, end: str) -> list[str]:
    body = json.dumps({"model": "demo", "stream": True, "messages": [{"role": "user", "content": text}]})
    return [
        f"  curl -sN {url}/v1/chat/completions -H 'content-type: application/json' \\",
        "    -H 'x-openclaw-session-key: agent:main:me' \\",
        f"    -d '{body}'{end}",
    ]
