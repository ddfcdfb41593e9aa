"""Turns that note what they write, in files, in a database and on a database server."""

from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from support.transcripts_scenes import user
from turnlane.transcripts import Transcripts

__all__ = ("PLACES", "Place", "in_a_database", "in_files", "on_a_server", "write_in_turns")

Place = Callable[..., Transcripts]


def in_files(path: Path, **settings: Any) -> Transcripts:
    settings.setdefault("trace_turns", True)
    return Transcripts(path, **settings)


def in_a_database(path: Path, **settings: Any) -> Transcripts:
    settings.setdefault("trace_turns", True)
    return Transcripts(f"sqlite:///{path}/transcripts.db", **settings)


def on_a_server(path: Path, **settings: Any) -> Transcripts:
    """Stand for a place in the database server, which the fixture `place` knows."""
    raise NotImplementedError("ask for it indirectly")


PLACES = [in_files, in_a_database, on_a_server]
"""For the fixture `place`: `@pytest.mark.parametrize("place", PLACES, indirect=True)`."""


async def write_in_turns(make: Callable[[], Transcripts], *, behind: bool) -> None:
    """Two entries of others, two of a turn, one of others, one of the turn; with `behind`, one of others more."""
    transcripts = make()
    await transcripts.append("a", user("before"), user("and before"))
    async with transcripts.open("a", token=5, turn="T") as transcript:
        transcript.live = True
        await transcript.append(user("question"), user("thought"))
        async with transcript.released() as prompt:
            async with aclosing(make()) as others:
                await others.append("a", user("peer"))
            prompt.stage(user("answer"))
    if behind:
        await transcripts.append("a", user("later"))
    await transcripts.aclose()
