"""Duplicates: the same message arriving again gets the answer there is, and is never run twice."""

from turnlane.duplicates.contract import Answer, Claim, DuplicateStore, MessageRecord, MessageState
from turnlane.duplicates.duplicates import Duplicates, Message, Run
from turnlane.duplicates.memory import MemoryDuplicateStore
from turnlane.duplicates.sqlite import SqliteDuplicateStore

__all__ = (
    "Answer",
    "Claim",
    "DuplicateStore",
    "Duplicates",
    "MemoryDuplicateStore",
    "Message",
    "MessageRecord",
    "MessageState",
    "Run",
    "SqliteDuplicateStore",
)
