"""What a worker process does to a transcript while its system calls are watched: one operation for each name in `JOBS`.

Each has the transcript `old` with the entry `zero`, and stores its texts in the order of `WANTED`. What it does before
`ready()` is not watched.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.transcripts_scenes import line, said, user
from turnlane.transcripts import Transcripts

__all__ = (
    "BURIALS",
    "FOR_EVER",
    "JOBS",
    "THIRD_PARTY",
    "WANTED",
    "Away",
    "Job",
    "RunFailed",
    "Say",
    "entry",
    "session_of",
)

THIRD_PARTY = ("rewrite", "grow")
"""The jobs in which somebody else's code writes the file: killed in it, it leaves an edit nobody owns."""

FOR_EVER = float("inf")
"""Later than any tombstone."""

WANTED = ("one", "two", "three")


class RunFailed(Exception):
    """The exception of somebody else's code."""


class Away(Exception):
    """What ends the release of the job `salvage`."""


@dataclass(frozen=True)
class Say:
    """How a job speaks: `ready` waits until it is watched, `handing` tells the texts of the next call of the toolkit
    that takes words, `stored` tells that it has returned.
    """

    ready: Callable[[], None]
    handing: Callable[..., None]
    stored: Callable[..., None]


Job = Callable[[Transcripts, Say], Awaitable[None]]


def entry(text: str) -> dict[str, Any]:
    """An entry that is longer than a sector of a disk."""
    return {**user(text), "filler": text * 200}


def session_of(job: str) -> str:
    """Which transcript it is about."""
    return "new" if job == "begin" else "old"


async def begin(transcripts: Transcripts, say: Say) -> None:
    """Open a transcript that is not there, and store the first entry."""
    say.ready()
    async with transcripts.open("new", token=1, turn="turn-1") as transcript:
        say.handing("one")
        await transcript.append(entry("one"))
        say.stored("one")


async def reopen(transcripts: Transcripts, say: Say) -> None:
    """Open one that is there, and close it."""
    say.ready()
    async with transcripts.open("old", token=1, turn="turn-1") as transcript:
        assert said(transcript.entries)[0] == "zero"


async def append(transcripts: Transcripts, say: Say) -> None:
    """Append inside an open transcript, one entry and two at once."""
    async with transcripts.open("old", token=1, turn="turn-1") as transcript:
        say.ready()
        say.handing("one")
        await transcript.append(entry("one"))
        say.stored("one")
        say.handing("two", "three")
        await transcript.append(entry("two"), entry("three"))
        say.stored("two", "three")


async def short(transcripts: Transcripts, say: Say) -> None:
    """Append from anywhere."""
    say.ready()
    say.handing("one")
    await transcripts.append("old", entry("one"))
    say.stored("one")
    say.handing("two", "three")
    await transcripts.append("old", entry("two"), entry("three"))
    say.stored("two", "three")


async def release(transcripts: Transcripts, say: Say) -> None:
    """Let go of the lock, append while out, come back with a staged reply, and append once more."""
    async with transcripts.open("old", token=1, turn="turn-1") as transcript:
        say.ready()
        async with transcript.released() as prompt:
            say.handing("one")
            await transcript.append(entry("one"))
            say.stored("one")
            say.handing("two")
            prompt.stage(entry("two"))
        say.stored("two")
        say.handing("three")
        await transcript.append(entry("three"))
        say.stored("three")


async def salvage(transcripts: Transcripts, say: Say) -> None:
    """Leave a release by an exception, with a staged reply."""
    async with transcripts.open("old", token=1, turn="turn-1") as transcript:
        say.ready()
        async with transcript.released() as prompt:
            say.handing("one")
            prompt.stage(entry("one"))
            raise Away


async def rewrite(transcripts: Transcripts, say: Say) -> None:
    """Have the whole file written anew, as an editor does it."""
    async with transcripts.open("old", token=1, turn="turn-1") as transcript:
        say.handing("one")
        await transcript.append(entry("one"))
        say.stored("one")
        say.ready()
        text = b"".join(line({**each, "compact": True}) for each in (*transcript.entries, entry("two")))

        def run() -> None:
            other = Path(f"{transcript.path}.new")
            other.write_bytes(text)
            other.replace(transcript.path)

        transcript.owned_write(own_errors(run), validate=lambda _, found: found.encode() == text, rewrite=True)
        say.stored("two")


async def grow(transcripts: Transcripts, say: Say) -> None:
    """Have somebody else append."""
    async with transcripts.open("old", token=1, turn="turn-1") as transcript:
        say.ready()
        text = line(entry("one"))

        def run() -> None:
            with Path(transcript.path).open("ab", buffering=0) as file:
                file.write(text)

        await transcript.owned_write_async(as_async(own_errors(run)), validate=lambda _, found: found.encode() == text)
        say.stored("one")
        say.handing("two")
        await transcript.append(entry("two"))
        say.stored("two")


async def recover(transcripts: Transcripts, say: Say) -> None:
    """Come after a writer that died in the middle of an append."""
    say.ready()
    async with transcripts.open("old", token=1, turn="turn-1") as transcript:
        say.handing("one")
        await transcript.append(entry("one"))
        say.stored("one")


async def go_back(transcripts: Transcripts, say: Say) -> None:
    """Take away again what was appended."""
    async with transcripts.open("old", token=1, turn="turn-1") as transcript:
        fence = transcript.fence
        say.handing("one")
        await transcript.append(entry("one"))
        say.ready()
        await transcript.rollback(fence)


async def delete(transcripts: Transcripts, say: Say) -> None:
    """Take `old` away."""
    say.ready()
    await transcripts.delete("old", token=1, turn="turn-1")


async def sweep(transcripts: Transcripts, say: Say) -> None:
    """Remove what is left of `gone`, which was deleted, and nothing of `old`."""
    say.ready()
    await transcripts.store.sweep(FOR_EVER)


def own_errors(run: Callable[[], None]) -> Callable[[], None]:
    def told() -> None:
        try:
            run()
        except OSError as error:
            raise RunFailed(os.strerror(error.errno or 0)) from error

    return told


def as_async(run: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def awaited() -> None:
        run()

    return awaited


JOBS: dict[str, Job] = {
    "begin": begin,
    "open": reopen,
    "append": append,
    "short": short,
    "release": release,
    "salvage": salvage,
    "rewrite": rewrite,
    "grow": grow,
    "recover": recover,
    "go back": go_back,
}

BURIALS: dict[str, Job] = {"delete": delete, "sweep": sweep}
"""The jobs that store nothing."""
