"""Judging what a fault has left of a deletion, or of the sweep behind it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from support.transcripts_aftermath import salvaged_in, told_of
from support.transcripts_jobs import FOR_EVER
from support.transcripts_scenes import line, said, user
from support.transcripts_strace import Outcome
from turnlane.errors import TranscriptTakeover, TranscriptUnavailable
from turnlane.hooks import Hooks, TranscriptAdopted
from turnlane.transcripts import Author, Transcripts
from turnlane.transcripts.inspection import inspect

__all__ = ("after_burial",)


async def after_burial(job: str, directory: Path, run: Callable[[], Outcome]) -> tuple[list[str], Outcome]:
    """Have a job run that a fault may hit, and return what is wrong then, and what was heard of it.

    Somebody else is out on a release of `old` meanwhile, with a reply, and comes back before anybody else looks.
    """
    transcripts, outcome, told = Transcripts(directory, lock_timeout=5), Outcome(), False
    await transcripts.append("old", user("zero"))
    if job == "sweep":
        await transcripts.append("gone", user("gone"))
        await transcripts.store.salvage("gone", [line(user("left"))], Author(), reason="a test")
        await transcripts.delete("gone")
    wrong: list[str] = []
    try:
        async with transcripts.open("old") as transcript, transcript.released() as prompt:
            prompt.stage(user("reply"))
            outcome = await asyncio.to_thread(run)
    except TranscriptUnavailable as error:
        told = error.reason == "it was deleted"
        wrong += [] if told else [f"the bystander could not go on: {error}"]
    except TranscriptTakeover as error:
        wrong.append(f"the fence of a bystander broke: {error}")
    wrong += told_of(outcome) + whole_or_not(job, directory, outcome, told=told)
    if job == "sweep":
        wrong += await swept(directory, outcome)
    return wrong + await begun_anew(directory, told=told), outcome


def whole_or_not(job: str, directory: Path, outcome: Outcome, *, told: bool) -> list[str]:
    """What is wrong with where the words are: in the transcript, or in its tombstone."""
    graves = [path for path in directory.glob("old.*.tombstone.jsonl") if b'"zero"' in path.read_bytes()]
    path = directory / "old.jsonl"
    there = path.exists() and b'"zero"' in path.read_bytes()
    wrong = (
        [] if len(graves) + there == 1 else [f"the words are in {graves} and {'there' if there else 'nowhere else'}"]
    )
    wrong += [] if told == bool(graves) else [f"the bystander was told that it is {'gone' if told else 'there'}"]
    if graves and job == "sweep":
        wrong.append("what was not deleted is in a tombstone")
    if outcome.done and job == "delete" and not graves:
        wrong.append("it was told that it is deleted")
    if told and "reply" not in salvaged_in(directory):
        wrong.append("the reply of the bystander is not in the salvage")
    return wrong


async def swept(directory: Path, outcome: Outcome) -> list[str]:
    """What is wrong with what is left of the transcript that was deleted, before and after another one sweeps."""
    wrong = [f"{name} was told swept" for name in rest_of_gone(directory)] if outcome.done else []
    await Transcripts(directory).store.sweep(FOR_EVER)
    wrong += [f"{name} is not swept the next time" for name in rest_of_gone(directory)]
    return wrong + ([] if (directory / "gone.jsonl.journal").exists() else ["the journal, its lock, is gone"])


def rest_of_gone(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("gone.*") if path.name != "gone.jsonl.journal")


async def begun_anew(directory: Path, *, told: bool) -> list[str]:
    """What is wrong when somebody opens it who knows nothing."""
    hooks, adopted = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, adopted.append)
    transcripts = Transcripts(directory, lock_timeout=5, hooks=hooks)
    try:
        async with transcripts.open("old") as transcript:
            found = said(transcript.entries)
            await transcript.append(user("next"))
        listed = await transcripts.list()
    except Exception as error:
        return [f"the next open failed: {type(error).__name__}: {error}"]
    wrong = [] if found == ([] if told else ["zero", "reply"]) else [f"the entries are {found}"]
    wrong += [] if listed == ("old",) else [f"listed are {listed}"]
    wrong += [f"adopted as {event.kind}" for event in adopted]
    return wrong + ([] if inspect(directory / "old.jsonl").is_well else ["it is not well"])
