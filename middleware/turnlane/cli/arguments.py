"""What can be typed: the parser, and the settings it returns."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = (
    "DemoSettings",
    "RepairSettings",
    "Settings",
    "VerifySettings",
    "VersionSettings",
    "WatchSettings",
    "build_parser",
    "parse",
)

EXIT_CODES = """\
exit status:
  0    the command did what it says; turnlane watch: it was ended by Ctrl-C or SIGTERM
  1    turnlane demo: the protected server broke a promise; turnlane verify: something is to be settled
  2    wrong arguments, a missing extra, or the command could not start
  3    turnlane verify: nothing is to be settled in what was judged, but a transcript was being written all the time
  130  ended by Ctrl-C or SIGTERM before it was done
"""

WATCH_DESCRIPTION = """\
Prints one line for each change of a transcript that nobody owns, while it happens, until Ctrl-C or SIGTERM.
Nothing is written. Transcripts of turnlane are judged by their journals; any other .jsonl file is held against
what it held before.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifySettings:
    """`turnlane verify`.

    Args:
        paths: transcripts, and directories of them.
        state_dir: where their journals are; None for beside them.
        json: print facts instead of text.
    """

    paths: tuple[Path, ...]
    state_dir: Path | None = None
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairSettings:
    """`turnlane repair`: one thing, and only what was asked for.

    Args:
        path: of one transcript.
        state_dir: where its journal is; None for beside it.
        adopt: make what it holds the owned state.
        cut_tail: move what stands behind the last line feed to the salvage first.
        token: set the highest token to this one.
        json: print facts instead of text.
    """

    path: Path
    state_dir: Path | None = None
    adopt: bool = False
    cut_tail: bool = False
    token: int | None = None
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """`turnlane watch`.

    Args:
        directory: what to watch.
        appends: tell of appends to files of other programs too.
        recursive: watch the directories below it too.
        state_dir: where the journals are; None for beside the transcripts.
        json: print facts instead of text.
    """

    directory: Path
    appends: bool = False
    recursive: bool = False
    state_dir: Path | None = None
    json: bool = False


Settings = VersionSettings | DemoSettings | VerifySettings | RepairSettings | WatchSettings


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; its help is the reference of the command line."""
    parser = argparse.ArgumentParser(
        prog="turnlane",
        description="Makes agent servers safe when two messages of one conversation arrive at once.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("--json", action="store_true", dest="json_first", help="print JSON instead of text")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    demo = commands.add_parser(
        "demo",
        help="show on real sockets what overlapping messages do to an agent server, without and with turnlane",
        description=DEMO_DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_demo_options(demo)
    _add_transcript_commands(commands.add_parser)
    return parser


def _add_transcript_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    verify = add(
        "verify",
        help="hold transcripts against their journals and print what nobody owns; nothing is written",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verify.add_argument("paths", nargs="+", type=_path, metavar="PATH", help="a transcript, or a directory of them")
    verify.add_argument("--json", action="store_true", help="print one JSON object for each transcript")
    _add_state_dir(verify)
    watch = add(
        "watch",
        help="print what nobody owns as it is changed, live; nothing is written",
        description=WATCH_DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    watch.add_argument("directory", type=_path, metavar="DIR", help="a directory of transcripts, of turnlane or others")
    watch.add_argument("--appends", action="store_true", help="also print appends to files of other programs")
    watch.add_argument("--recursive", action="store_true", help="watch the directories below it too")
    _add_state_dir(watch)
    watch.add_argument("--json", action="store_true", help="print one JSON object for each change")
    repair = add(
        "repair",
        help="settle by hand what no turn may settle in one transcript",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    repair.add_argument("path", type=_path, metavar="PATH", help="the transcript")
    _add_state_dir(repair)
    what = repair.add_argument_group("what to do, at least one").add_argument
    what("--adopt", action="store_true", help="make what it holds the owned state, with a record of it")
    what("--cut-tail", action="store_true", help="move half a line at its end to the salvage")
    what("--token", type=_token, metavar="N", help="set the highest token that has written")
    repair.add_argument("--json", action="store_true", help="print what was done as JSON")


def _add_demo_options(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--serve", action="store_true", help="leave the protected server running and print what to try")
    demo.add_argument(
        "--port", type=_port, default=0, metavar="N", help="port of the protected server (default: a free one)"
    )
    demo.add_argument(
        "--directory", type=_path, metavar="DIR", help="keep the transcripts in DIR, which must be new or empty"
    )
    demo.add_argument(
        "--delay", type=_seconds, default=0.05, metavar="SECONDS", help="pause before each word (default: 0.05)"
    )
    demo.add_argument("--json", action="store_true", help="print the facts of both runs as JSON")
    demo.add_argument("--no-color", action="store_true", help="print without colours, as NO_COLOR=1 does")


def _add_state_dir(command: argparse.ArgumentParser) -> None:
    what = "where the journals are, of files that belong to another program; by default beside the transcripts"
    command.add_argument("--state-dir", type=_path, metavar="DIR", help=what)


def _path(text: str) -> Path:
    if text:
        return Path(text)
    # Path("") is the current directory, which nobody has named: a variable of a script was empty.
    raise argparse.ArgumentTypeError("the path is empty; say . for the current directory")


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"not a port: {text!r}; use 0 to 65535")


def _token(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 2**63:
        return int(text)
    raise argparse.ArgumentTypeError(f"not a token: {text!r}; use a whole number from 0")


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
    parser = build_parser()
    found = parser.parse_args(arguments)
    if found.version:
        return VersionSettings(json=found.json_first)
    if found.command == "demo":
        return DemoSettings(
            serve=found.serve,
            port=found.port,
            directory=found.directory,
            delay=found.delay,
            json=found.json or found.json_first,
            no_color=found.no_color,
        )
    if found.command == "verify":
        return VerifySettings(paths=tuple(found.paths), state_dir=found.state_dir, json=found.json or found.json_first)
    if found.command == "watch":
        return WatchSettings(
            directory=found.directory,
            appends=found.appends,
            recursive=found.recursive,
            state_dir=found.state_dir,
            json=found.json or found.json_first,
        )
    if found.command == "repair":
        if not (found.adopt or found.cut_tail or found.token is not None):
            parser.error("repair does nothing by itself: say --adopt, --cut-tail or --token N")
        return RepairSettings(
            path=found.path,
            state_dir=found.state_dir,
            adopt=found.adopt,
            cut_tail=found.cut_tail,
            token=found.token,
            json=found.json or found.json_first,
        )
    return None
