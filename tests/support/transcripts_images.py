"""Runs on a recorded disk, and judging the images that a power loss may leave of it."""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

from support.transcripts_aftermath import die_half_way, salvaged_in
from support.transcripts_disk import Disk, FaultyRecording, Image, Moment, RecordingFiles
from support.transcripts_faults import Faults, Killed
from support.transcripts_jobs import JOBS, Away, Say, entry
from support.transcripts_scenes import line, said
from turnlane.errors import TranscriptError
from turnlane.hooks import Hooks, TailLost, TranscriptAdopted
from turnlane.transcripts import JsonlTranscriptStore, Transcripts
from turnlane.transcripts.files import Files
from turnlane.transcripts.inspection import inspect

__all__ = ("NUMBERED", "SCENES", "Scene", "judged", "record")


class Swift(Files):
    """Waits for no disk: what looks at an image need not survive a power loss."""

    __slots__ = ()

    def sync(self, fd: int) -> None:
        pass

    def sync_directory(self, path: str) -> None:
        pass


def say(disk: Disk) -> Say:
    def stored(*texts: str) -> None:
        disk.acknowledged += texts
        disk.remember()

    return Say(ready=lambda: None, handing=lambda *texts: disk.handed.append(texts), stored=stored)


def on(disk: Disk, faults: Faults | None = None) -> Transcripts:
    files = RecordingFiles(disk) if faults is None else FaultyRecording(faults, disk)
    return Transcripts(JsonlTranscriptStore(disk.directory, files=files, sync=True), lock_timeout=1)


async def first(disk: Disk) -> None:
    """The directory, the transcript and its first entry."""
    speaker = say(disk)
    speaker.handing("zero")
    await on(disk).append("old", entry("zero"))
    speaker.stored("zero")


async def job(disk: Disk, name: str, faults: Faults | None = None) -> None:
    """Have a job done that may fail; what it says is salvaged must be."""
    try:
        await JOBS[name](on(disk, faults), say(disk))
    except (TranscriptError, Away) as error:
        if ".salvage.jsonl" in "\n".join([str(error), *getattr(error, "__notes__", ())]):
            disk.salvaged += [text for group in disk.handed for text in group if text not in disk.acknowledged]
            disk.remember()


async def appends(disk: Disk, _: int) -> bool:
    await first(disk)
    await job(disk, "append")
    await job(disk, "open")
    return False


async def begins(disk: Disk, _: int) -> bool:
    await first(disk)
    return False


async def shorts(disk: Disk, _: int) -> bool:
    await first(disk)
    await job(disk, "short")
    return False


async def releases(disk: Disk, _: int) -> bool:
    await first(disk)
    await job(disk, "release")
    return False


async def salvages(disk: Disk, _: int) -> bool:
    await first(disk)
    await job(disk, "salvage")
    return False


async def compacts(disk: Disk, _: int) -> bool:
    """A third party that writes carefully has the whole file written anew."""
    await first(disk)
    files, speaker = RecordingFiles(disk), say(disk)
    async with on(disk).open("old") as transcript:
        text = b"".join(line({**each, "compact": True}) for each in (*transcript.entries, entry("one")))

        def run() -> None:
            fd = files.open(f"{transcript.path}.new", os.O_RDWR | os.O_CREAT)
            files.write(fd, 0, text)
            files.sync(fd)
            files.close(fd)
            files.rename(f"{transcript.path}.new", transcript.path)

        speaker.handing("one")
        transcript.owned_write(run, validate=lambda _, found: found.encode() == text, rewrite=True)
        speaker.stored("one")
        speaker.handing("two", "three")
        await transcript.append(entry("two"), entry("three"))
        speaker.stored("two", "three")
    return False


async def recovers(disk: Disk, number: int) -> bool:
    """A writer is killed at a call, half-way; another process goes on. False once there is no such call."""
    await first(disk)
    faults = Faults(number, "kill", halves=True)
    with suppress(Killed):
        await job(disk, "append", faults)
    await go_on(disk)
    return faults.happened


async def rescues(disk: Disk, number: int) -> bool:
    """A writer has died half-way, and who comes next is killed at a call."""
    await first(disk)
    disk.handed.append(("torn", "torn too"))
    await die_half_way(disk.directory, lambda faults: FaultyRecording(faults, disk), sync=True)
    disk.salvaged += ["torn", "torn too"]  # they were in the journal, and synced, before half of them was written
    faults = Faults(number, "kill", halves=True)
    with suppress(Killed):
        await job(disk, "open", faults)
    await go_on(disk)
    return faults.happened


async def fails(disk: Disk, number: int) -> bool:
    """A call of a turn fails, among them a sync; another turn goes on."""
    await first(disk)
    faults = Faults(number, "EIO", halves=True)
    await job(disk, "append", faults)
    await go_on(disk)
    return faults.happened


async def begins_badly(disk: Disk, number: int) -> bool:
    """A call of the very first append fails; another one goes on."""
    return await first_of_all(disk, Faults(number, "EIO", halves=True))


async def begins_and_dies(disk: Disk, number: int) -> bool:
    """The same with a kill."""
    return await first_of_all(disk, Faults(number, "kill", halves=True))


async def first_of_all(disk: Disk, faults: Faults) -> bool:
    speaker = say(disk)
    speaker.handing("zero")
    with suppress(TranscriptError, Killed):
        await on(disk, faults).append("old", entry("zero"))
        speaker.stored("zero")
    await go_on(disk)
    return faults.happened


async def go_on(disk: Disk) -> None:
    speaker, transcripts = say(disk), on(disk)
    async with transcripts.open("old") as transcript:
        speaker.handing("four")
        await transcript.append(entry("four"))
        speaker.stored("four")
    speaker.handing("five")
    await transcripts.append("old", entry("five"))
    speaker.stored("five")


Scene = Callable[[Disk, int], Awaitable[bool]]
SCENES: tuple[Scene, ...] = (begins, appends, shorts, releases, salvages, compacts)
NUMBERED: tuple[Scene, ...] = (recovers, rescues, fails, begins_badly, begins_and_dies)
"""Scenes in which something happens at the call of a number."""


async def record(scene: Scene, directory: Path, number: int) -> tuple[list[Moment], bool]:
    """Run a scene on a disk of its own; return each moment once, and whether there is a scene of the next number."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    disk = Disk(directory)
    more = await scene(disk, number)
    rmtree(directory.parent)
    return list(dict.fromkeys(disk.moments)), more


async def judged(image: Image, moment: Moment, directory: Path) -> list[str]:
    """Return what is wrong with an image, once somebody has opened it anew."""
    rmtree(directory, ignore_errors=True)
    if image is not None:
        directory.mkdir()
        for name, content in image.items():
            (directory / name).write_bytes(content)
    hooks, told = Hooks(), list[object]()
    hooks.on(TranscriptAdopted, told.append)
    hooks.on(TailLost, told.append)
    transcripts = Transcripts(JsonlTranscriptStore(directory, files=Swift(), sync=True), hooks=hooks, lock_timeout=1)
    try:
        async with transcripts.open("old") as transcript:
            found = said(transcript.entries)
            await transcript.append(entry("next"))
        read = said(await transcripts.read("old"))
        listed = await transcripts.list()
    except Exception as error:
        return [f"it can not be opened: {type(error).__name__}: {error}"]
    wrong = [] if is_rightful(image, moment) else [f"told was {event}" for event in told]
    wrong += [] if (read, listed) == ([*found, "next"], ("old",)) else [f"read is {read}, listed {listed}"]
    wrong += [] if inspect(directory / "old.jsonl").is_well else ["it is not well"]
    return wrong + held_against(moment, found, salvaged_in(directory))


def is_rightful(image: Image, moment: Moment) -> bool:
    """Tell whether a third party had written, and the power failed before it was known that its write is owned."""
    return "one" not in moment.acknowledged and b'"compact"' in (image or {}).get("old.jsonl", b"")


def held_against(moment: Moment, found: list[str], salvaged: list[str | None]) -> list[str]:
    wrong: list[str] = []
    if found != [text for group in moment.handed for text in group if text in found]:
        wrong.append(f"the entries are {found}")
    wrong += [f"{text} was acknowledged and is gone" for text in moment.acknowledged if text not in found]
    wrong += [f"{group} is there in part: {found}" for group in moment.handed if len({t in found for t in group}) == 2]
    wrong += [
        f"{text} was salvaged and is gone: {salvaged}"
        for text in moment.salvaged
        if text not in found and text not in salvaged
    ]
    return wrong
