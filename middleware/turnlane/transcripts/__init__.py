"""Transcripts: contract, stores, fence and prompt release."""

from turnlane.transcripts.contract import Author, Changes, Fence, TranscriptHandle, TranscriptStore, UnownedEdit
from turnlane.transcripts.entries import Entry
from turnlane.transcripts.finding import Finding
from turnlane.transcripts.jsonl import JsonlTranscriptStore
from turnlane.transcripts.monitor import MonitorStatistics, TranscriptMonitor
from turnlane.transcripts.postgresql import PostgresqlTranscriptStore
from turnlane.transcripts.prompt import Prompt
from turnlane.transcripts.sqlite import SqliteTranscriptStore
from turnlane.transcripts.takeover import TakeoverPolicy
from turnlane.transcripts.transcript import Transcript
from turnlane.transcripts.transcripts import Transcripts

__all__ = (
    "Author",
    "Changes",
    "Entry",
    "Fence",
    "Finding",
    "JsonlTranscriptStore",
    "MonitorStatistics",
    "PostgresqlTranscriptStore",
    "Prompt",
    "SqliteTranscriptStore",
    "TakeoverPolicy",
    "Transcript",
    "TranscriptHandle",
    "TranscriptMonitor",
    "TranscriptStore",
    "Transcripts",
    "UnownedEdit",
)
