"""Turns the facts and the verdict of a run into lines of text."""

from collections.abc import Sequence
from textwrap import wrap
from types import MappingProxyType

from turnlane.cli.demo.facts import MessageFacts, Moment, RunFacts
from turnlane.cli.demo.release import ReleaseFacts
from turnlane.cli.demo.verdict import Check
from turnlane.cli.style import Style

__all__ = ("legend_line", "release_lines", "run_lines", "summary_line")

BAR_MARGIN = 66
"""Columns of a timeline row that are not the bar."""

SHOWN_VIOLATIONS = 3

HEADINGS = MappingProxyType(
    {
        "unprotected": "WITHOUT turnlane: the server as people write it",
        "protected": "WITH turnlane: the same server, one line added",
    }
)


def run_lines(facts: RunFacts, checks: Sequence[Check], style: Style) -> list[str]:
    """Return the timeline of every conversation, then the verdict."""
    lines = [style.strong(HEADINGS.get(facts.name, facts.name)), ""]
    for key in facts.keys:
        lines += [*_conversation_lines(facts, key, style), ""]
    return [*lines, *_verdict_lines(checks, style)]


def release_lines(scenes: Sequence[ReleaseFacts], checks: Sequence[Check], style: Style) -> list[str]:
    """Return what became of the transcript in each scene, then the verdict."""
    lines = [style.strong("WHILE THE MODEL THINKS: the turn lets go of its transcript"), ""]
    for scene in scenes:
        lines.append(f"  {style.strong(scene.meanwhile)}")
        lines += [f"    {entry}" for entry in scene.stored]
        if scene.kind is not None:
            lines.append(f"    the turn stopped: line {scene.line} was {scene.kind} by somebody who does not own it")
            lines += [f"    salvaged: {entry}" for entry in scene.salvaged]
        lines.append("")
    return [*lines, *_verdict_lines(checks, style)]


def legend_line(style: Style) -> str:
    """Return what the marks of a timeline mean."""
    waiting, running, gone = _marks(style)
    return style.quiet(f"  {waiting} waits in its lane   {running} its turn runs   {gone} its client had hung up")


def summary_line(runs: Sequence[tuple[str, Sequence[Check]]], seconds: float, style: Style) -> str:
    """Return one line over all runs."""
    parts: list[str] = []
    for name, checks in runs:
        broken = sum(not check.passed for check in checks)
        text = f"{name}: {len(checks) - broken} of {len(checks)} promises kept"
        parts.append(style.bad(text) if broken else style.good(text))
    return f"{', '.join(parts)} ({seconds:.1f} s)"


def _marks(style: Style) -> tuple[str, str, str]:
    return ("\N{MIDDLE DOT}", "\N{FULL BLOCK}", "\N{MULTIPLICATION SIGN}") if style.blocks else (".", "#", "x")


def _conversation_lines(facts: RunFacts, key: str, style: Style) -> list[str]:
    messages = facts.of_key(key)
    end = max((moment.at for m in facts.messages for moment in (m.ended, m.returned) if moment), default=0.0)
    stayed = [message for message in messages if not message.leaves]
    lines = [f"  {style.strong(key)}"]
    for message in messages:
        bar = _bar(message, end, max(20, style.width - BAR_MARGIN), style)
        how = f"{message.api}{' stream' if message.stream else ''}"
        earlier = stayed.index(message) if message in stayed else None
        lines.append(f"    {message.label:<8} {how:<16} {bar} {_outcome(message, earlier, style)}")
    last = messages[-1]
    if last.received:
        quoted = wrap(last.received, style.width - 8)
        lines += [f'    answer to "{last.text}":', *(f"      {line}" for line in quoted)]
    return lines


def _bar(message: MessageFacts, end: float, width: int, style: Style) -> str:
    waiting, running, gone = _marks(style)

    def column(moment: Moment | None, otherwise: int) -> int:
        return otherwise if moment is None or end <= 0 else min(width - 1, round(moment.at / end * (width - 1)))

    begin = column(message.arrived, 0)
    start = column(message.started, column(message.returned, begin))
    stop = max(column(message.ended, start), start)
    cells = [" "] * width
    cells[begin:start] = [waiting] * (start - begin)
    cells[start : stop + 1] = [running if message.started else gone] * (stop + 1 - start)
    return f"|{''.join(cells)}|"


def _outcome(message: MessageFacts, earlier: int | None, style: Style) -> str:
    """Return which session the turn had and how much of the conversation it knew.

    `earlier` counts the messages before it whose clients stayed; None for a client that did not.
    """
    if message.started is None:
        return style.quiet("never ran") if message.leaves else style.bad(f"never ran: {message.error}")
    session = f"session {(message.session_id or '?')[:8]}"
    if earlier is None:
        return f"{session}  {style.bad('ran for nobody')}"
    knew = len(message.remembered or ())
    text = f"knew {knew} of {earlier} earlier"
    return f"{session}  {text if knew == earlier else style.bad(text)}"


def _verdict_lines(checks: Sequence[Check], style: Style) -> list[str]:
    lines: list[str] = []
    for check in checks:
        lines.append(f"  {style.good('kept  ') if check.passed else style.bad('BROKEN')}  {check.name}")
        shown = list(check.violations[:SHOWN_VIOLATIONS])
        if len(check.violations) > len(shown):
            shown.append(f"and {len(check.violations) - len(shown)} more; --json prints all")
        for violation in shown:
            lines += [style.quiet(f"            {line}") for line in wrap(violation, style.width - 14)]
    return lines
