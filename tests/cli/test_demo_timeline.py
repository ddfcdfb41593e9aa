"""The demo's text."""

from dataclasses import replace
from io import BytesIO, StringIO, TextIOWrapper

from cli.planted import healthy_run, moment, with_message
from turnlane.cli.demo.timeline import legend_line, run_lines, summary_line
from turnlane.cli.demo.verdict import judge
from turnlane.cli.style import Style


def test_a_timeline_shows_waiting_running_and_hanging_up() -> None:
    """Each message has a row; the marks stand where things happened."""
    facts = healthy_run()
    lines = run_lines(facts, judge(facts), Style(width=100))
    rows = {line.split()[0]: line for line in lines if line.startswith("    ") and "|" in line}
    assert set(rows) == {"a-1", "a-2", "a-3", "b-1", "b-2"}
    bars = {label: row.split("|")[1] for label, row in rows.items()}
    assert bars["a-1"].strip().strip("#") in ("", ".")
    assert set(bars["a-2"]) == {" ", ".", "x"} or set(bars["a-2"]) == {" ", "x"}
    assert bars["a-3"].index(".") < bars["a-3"].index("#")
    assert len({len(bar) for bar in bars.values()}) == 1
    assert "never ran" in rows["a-2"]
    assert "knew 1 of 1 earlier" in rows["a-3"]


def test_a_broken_promise_is_shown_with_its_violations() -> None:
    """At most three violations are printed, and how many there are besides."""
    facts = healthy_run()
    for label in ("a-1", "a-3", "b-1", "b-2"):
        facts = with_message(facts, label, received=None, error="gone wrong")
    text = "\n".join(run_lines(facts, judge(facts), Style()))
    assert "BROKEN  every client that stayed got its own answer" in text
    assert text.count("gone wrong") == 3
    assert "and 1 more" in text
    assert "kept    one session id per key" in text


def test_a_message_that_never_arrived_is_drawn_too() -> None:
    """Facts with holes do not break the drawing, nor do no facts at all."""
    facts = with_message(
        healthy_run(), "b-2", arrived=None, started=None, ended=None, returned=None, received=None, error="refused"
    )
    assert any("never ran: refused" in line for line in run_lines(facts, judge(facts), Style()))
    empty = replace(facts, messages=())
    assert run_lines(empty, judge(empty), Style())


def test_a_turn_that_ran_for_nobody_is_named() -> None:
    """A message whose client had gone and which ran is marked."""
    facts = with_message(healthy_run(), "a-2", started=moment(5), ended=moment(6), session_id="0123456789")
    assert any("session 01234567  ran for nobody" in line for line in run_lines(facts, judge(facts), Style()))


def test_the_summary_counts_promises() -> None:
    """Kept of made, per run."""
    facts = healthy_run()
    line = summary_line([("protected", judge(facts))], 5.04, Style())
    assert line == "protected: 10 of 10 promises kept (5.0 s)"


class Terminal(StringIO):
    """Text output that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_that_want_them() -> None:
    """NO_COLOR, --no-color, TERM=dumb and a pipe each turn colours off; blocks need UTF-8."""
    assert Style.of_stream(Terminal(), {}, no_color=False, width=100).color
    assert not Style.of_stream(Terminal(), {"NO_COLOR": "1"}, no_color=False, width=100).color
    assert not Style.of_stream(Terminal(), {"TERM": "dumb"}, no_color=False, width=100).color
    assert not Style.of_stream(Terminal(), {}, no_color=True, width=100).color
    pipe = TextIOWrapper(BytesIO(), encoding="latin-1")
    style = Style.of_stream(pipe, {}, no_color=False, width=300)
    assert (style.color, style.blocks, style.width) == (False, False, 120)
    assert Style(color=True).bad("text") == "\x1b[31mtext\x1b[0m"
    assert legend_line(style).isascii()
