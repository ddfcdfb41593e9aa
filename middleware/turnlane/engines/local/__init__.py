"""`file:///directory`: lanes of all processes of one machine, in a SQLite database and the kernel's hands."""

from turnlane.engines.local.engine import LocalEngine

__all__ = ("LocalEngine",)
