"""The store a URL or a path names."""

import os

from turnlane.clock import Clock
from turnlane.postgresql import is_postgresql
from turnlane.sqlite import path_in
from turnlane.transcripts.contract import TranscriptStore
from turnlane.transcripts.jsonl import JsonlTranscriptStore
from turnlane.transcripts.postgresql import PostgresqlTranscriptStore
from turnlane.transcripts.sqlite import SqliteTranscriptStore

__all__ = ("store_at",)

FILE = "file://"
SQLITE = "sqlite://"


def store_at(
    url: str,
    *,
    state_dir: str | os.PathLike[str] | None,
    verify_up_to: int,
    verify_always: bool,
    sync: bool,
    allow_network_fs: bool,
    trace_turns: bool,
    clock: Clock | None,
) -> TranscriptStore:
    """Return the store at a place, not yet open; the arguments are those of the stores.

    Raises:
        ValueError: there is none of that name, or it has no use for an argument.
    """
    if is_postgresql(url):
        if state_dir is not None:
            raise ValueError("state_dir= is for files of other programs; a database keeps everything in itself")
        return PostgresqlTranscriptStore(
            url,
            verify_up_to=verify_up_to,
            verify_always=verify_always,
            sync=sync,
            trace_turns=trace_turns,
            clock=clock,
        )
    if not url.startswith(SQLITE):
        return JsonlTranscriptStore(
            _place_of(url),
            state_dir=state_dir,
            verify_up_to=verify_up_to,
            verify_always=verify_always,
            sync=sync,
            allow_network_fs=allow_network_fs,
            trace_turns=trace_turns,
            clock=clock,
        )
    if state_dir is not None:
        raise ValueError("state_dir= is for files of other programs; a database keeps everything in itself")
    return SqliteTranscriptStore(
        path_in(url),
        verify_up_to=verify_up_to,
        verify_always=verify_always,
        sync=sync,
        allow_network_fs=allow_network_fs,
        trace_turns=trace_turns,
        clock=clock,
    )


def _place_of(url: str) -> str:
    if url.startswith(FILE):
        url = url.removeprefix(FILE)
        if not url.startswith("/"):
            raise ValueError(f"file:// needs an absolute path, as in file:///var/lib/transcripts: {FILE + url!r}")
    elif "://" in url:
        raise ValueError(
            "transcripts live in a directory, a file, sqlite:///file.db or postgresql://user@host/database; "
            f"{url.partition('://')[0] + '://'!r} names no store there is"
        )
    return url
