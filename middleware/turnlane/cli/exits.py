"""Exit codes, and the errors that stand for them."""

from enum import IntEnum

__all__ = ("CommandFailed", "ExitCode", "MissingExtra")


class ExitCode(IntEnum):
    """What the exit status says."""

    OK = 0
    VIOLATION = 1
    NOT_DONE = 2
    BUSY = 3
    INTERRUPTED = 130


class CommandFailed(Exception):  # an outcome of the command line, which nobody catches as an error of the package
    """The command could not do what was asked; the message says why, in one line."""


class MissingExtra(CommandFailed):
    """A package the command needs is not installed."""

    def __init__(self, *, command: str, package: str, extra: str) -> None:
        self.command = command
        self.package = package
        self.extra = extra
        super().__init__(f"turnlane {command} needs the package {package!r}: pip install 'turnlane[{extra}]'")
