"""Puts arguments, commands and output together; the only place that decides the exit status."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from turnlane.cli import commands, output
from turnlane.cli.arguments import DemoSettings, VersionSettings, build_parser, parse
from turnlane.cli.exits import CommandFailed, ExitCode
from turnlane.cli.style import Style

__all__ = ("main",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: the words after the program's name; None reads them from the process.

    Raises:
        SystemExit: help was asked for (0), or the arguments are wrong (2).
    """
    settings = parse(arguments)
    try:
        with _termination_as_interrupt():
            match settings:
                case VersionSettings(json=as_json):
                    output.print_version(commands.version(), sys.stdout, as_json=as_json)
                    return ExitCode.OK
                case DemoSettings():
                    return _demo(settings)
                case None:
                    build_parser().print_help(sys.stderr)
                    return ExitCode.NOT_DONE
    except CommandFailed as error:
        print(f"turnlane: {error}", file=sys.stderr)
        return ExitCode.NOT_DONE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.NOT_DONE


def _demo(settings: DemoSettings) -> int:
    with commands.demo(settings) as report:
        if settings.json:
            output.print_demo_json(report, sys.stdout)
        else:
            width = shutil.get_terminal_size().columns
            style = Style.of_stream(sys.stdout, os.environ, no_color=settings.no_color, width=width)
            output.print_demo(report, sys.stdout, style)
        if settings.serve:
            # JSON stays the only thing on standard output.
            output.print_try_it(report.url, sys.stderr if settings.json else sys.stdout)
            # Ctrl-C is the way to end a server that was asked to stay; the verdict still counts.
            with suppress(KeyboardInterrupt):
                report.wait()
        passed = report.protected.passed
    return ExitCode.OK if passed else ExitCode.VIOLATION


@contextmanager
def _termination_as_interrupt() -> Generator[None, None, None]:
    """Let SIGTERM end the program as Ctrl-C does: servers stopped, temporary files removed."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
