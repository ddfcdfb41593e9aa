"""The command line: `turnlane` and `python -m turnlane`."""

from turnlane.cli.program import main

__all__ = ("main",)
