"""SQLite files: making and recognising them, one connection in a thread of its own, what its errors mean."""

from turnlane.sqlite.file import Refused, Schema, connect, snapshot, transaction
from turnlane.sqlite.reasons import is_busy, is_corrupt, is_lasting, reason_of
from turnlane.sqlite.thread import ConnectionThread, Forked
from turnlane.sqlite.urls import path_in

__all__ = (
    "ConnectionThread",
    "Forked",
    "Refused",
    "Schema",
    "connect",
    "is_busy",
    "is_corrupt",
    "is_lasting",
    "path_in",
    "reason_of",
    "snapshot",
    "transaction",
)
