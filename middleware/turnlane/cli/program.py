"""Puts arguments, commands and output together; the only place that decides the exit status."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from turnlane.cli import commands, output, transcripts
from turnlane.cli.arguments import (
    DemoSettings,
    RepairSettings,
    VerifySettings,
    VersionSettings,
    WatchSettings,
    build_parser,
    parse,
)
from turnlane.cli.exits import CommandFailed, ExitCode
from turnlane.cli.style import Style

__all__ = ("main",)


def main(arguments: Sequence[str] | None = None) -> int:  # noqa: C901  a case for each command
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
                case VerifySettings():
                    found = transcripts.verify(settings)
                    output.print_verify(found, sys.stdout, as_json=settings.json)
                    return transcripts.verdict(found)
                case RepairSettings():
                    output.print_repair(transcripts.repair(settings), sys.stdout, as_json=settings.json)
                    return ExitCode.OK
                case WatchSettings():
                    return _watch(settings)
                case None:
                    build_parser().print_help(sys.stderr)
                    return ExitCode.NOT_DONE
    except CommandFailed as error:
        output.print_failure(error, sys.stderr)
        return ExitCode.NOT_DONE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.NOT_DONE
    except OSError as error:  # a full disk behind standard output, above all
        output.print_failure(error, sys.stderr)
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
        passed = report.passed
    return ExitCode.OK if passed else ExitCode.VIOLATION


def _watch(settings: WatchSettings) -> int:
    transcripts.watch(
        settings,
        watching=lambda files: output.print_watching(settings.directory, files, sys.stderr),
        found=lambda event: output.print_watch(event, sys.stdout, as_json=settings.json),
    )
    return ExitCode.OK


@contextmanager
def _termination_as_interrupt() -> Generator[None, None, None]:
    """Let SIGTERM end the program as Ctrl-C does: servers stopped, temporary files removed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        # As Ctrl-C, also inside asyncio.run: an exception raised between any two instructions may be lost there.
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    # A shell starts what it puts in the background with SIGINT ignored, and asyncio.run then does not mind it either.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
