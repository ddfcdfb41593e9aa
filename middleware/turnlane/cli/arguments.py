"""What can be typed: the parser, and the settings it returns."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ("DemoSettings", "VersionSettings", "build_parser", "parse")

EXIT_CODES = """\
exit status:
  0    the command did what it says
  1    turnlane demo: the protected server broke a promise
  2    wrong arguments, a missing extra, or the command could not start
  130  ended by Ctrl-C or SIGTERM before it was done
"""

DEMO_DESCRIPTION = """\
Starts one agent server twice on loopback, without and with turnlane, fires the same burst of overlapping
messages at both with the openai client, and prints what happened to each message and which promises were
kept. The model is scripted: it says which messages it was given. Where OPENAI_BASE_URL is set, that server
answers instead (OPENAI_MODEL, OPENAI_API_KEY).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSettings:
    """`turnlane --version`."""

    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """`turnlane demo`.

    Args:
        serve: leave the protected server running.
        port: the TCP port of the protected server; 0 takes a free one.
        directory: where transcripts are kept; None for a temporary one.
        delay: seconds between two words of the scripted model.
        json: print facts instead of text.
        no_color: print without colours.
    """

    serve: bool = False
    port: int = 0
    directory: Path | None = None
    delay: float = 0.05
    json: bool = False
    no_color: bool = False


Settings = VersionSettings | DemoSettings


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; its help is the reference of the command line."""
    parser = argparse.ArgumentParser(
        prog="turnlane",
        description="Makes agent servers safe when two messages of one conversation arrive at once.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("--json", action="store_true", dest="version_json", help="with --version: print it as JSON")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    demo = commands.add_parser(
        "demo",
        help="show on real sockets what overlapping messages do to an agent server, without and with turnlane",
        description=DEMO_DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_demo_options(demo)
    return parser


def _add_demo_options(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--serve", action="store_true", help="leave the protected server running and print what to try")
    demo.add_argument(
        "--port", type=_port, default=0, metavar="N", help="port of the protected server (default: a free one)"
    )
    demo.add_argument(
        "--directory", type=Path, metavar="DIR", help="keep the transcripts in DIR, which must be new or empty"
    )
    demo.add_argument(
        "--delay", type=_seconds, default=0.05, metavar="SECONDS", help="pause before each word (default: 0.05)"
    )
    demo.add_argument("--json", action="store_true", help="print the facts of both runs as JSON")
    demo.add_argument("--no-color", action="store_true", help="print without colours, as NO_COLOR=1 does")


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"not a port: {text!r}; use 0 to 65535")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if 0 <= seconds <= 10:
        return seconds
    raise argparse.ArgumentTypeError(f"not a number of seconds between 0 and 10: {text!r}")


def parse(arguments: Sequence[str] | None = None) -> Settings | None:
    """Return the settings of the command that was typed, None where no command was.

    Args:
        arguments: the words after the program's name; None reads them from the process.

    Raises:
        SystemExit: help was asked for (0), or the arguments are wrong (2).
    """
    found = build_parser().parse_args(arguments)
    if found.version:
        return VersionSettings(json=found.version_json)
    if found.command == "demo":
        return DemoSettings(
            serve=found.serve,
            port=found.port,
            directory=found.directory,
            delay=found.delay,
            json=found.json,
            no_color=found.no_color,
        )
    return None
