"""Judging what a fault has left of a transcript: with the fence of somebody who was out all the while, and anew."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from support.transcripts_faults import Faults, FaultyFiles, Killed
from support.transcripts_jobs import THIRD_PARTY, WANTED, entry, session_of
from support.transcripts_scenes import said, user
from support.transcripts_strace import Outcome
from turnlane.errors import TranscriptTakeover
from turnlane.hooks import Hooks, TranscriptAdopted
from turnlane.transcripts import JsonlTranscriptStore, Transcripts
from turnlane.transcripts.files import Files
from turnlane.transcripts.inspection import inspect

__all__ = ("after", "die_half_way", "salvaged_in", "told_of")

OUT_OF_THE_BLOCK = ("Away", "RunFailed")


async def after(job: str, directory: Path, run: Callable[[], Outcome]) -> tuple[list[str], Outcome]:
    """Have a job run that a fault may hit, and return what is wrong then, and what was heard of it.

    Somebody else is out on a release meanwhile, and comes back before anybody else looks.
    """
    wrong, seen, outcome = list[str](), list[str](), Outcome()
    session, transcripts = session_of(job), Transcripts(directory, lock_timeout=5)
    await transcripts.append("old", user("zero"))
    taken = False
    if session == "old":
        try:
            async with transcripts.open("old") as transcript, transcript.released() as prompt:
                if job == "recover":
                    await die_half_way(directory)
                outcome = await asyncio.to_thread(run)
            seen = [text for text in said(prompt.changes) if text != "zero"]
        except TranscriptTakeover as error:
            taken = True
            if not is_rightful(job, directory, outcome):
                wrong.append(f"the fence of a bystander broke: {error}")
    else:
        outcome = await asyncio.to_thread(run)
    wrong += told_of(outcome)
    if not taken:
        wrong += [f"{text} is not among what the bystander saw" for text in missing(outcome, session, seen)]
    wrong += await opened_anew(job, directory, outcome, taken=taken)
    return wrong, outcome


def missing(outcome: Outcome, session: str, seen: list[str]) -> list[str]:
    return [text for text in outcome.stored if text not in seen] if session == "old" else []


def is_rightful(job: str, directory: Path, outcome: Outcome) -> bool:
    """Tell whether there is an edit nobody owns: somebody else's code wrote, and its write was not acknowledged."""
    text = "two" if job == "rewrite" else "one"
    return job in THIRD_PARTY and text not in outcome.stored and f'"{text}"' in (directory / "old.jsonl").read_text()


def told_of(outcome: Outcome) -> list[str]:
    """What is wrong with how the worker ended."""
    wrong = [f"the loop complained: {text}" for text in outcome.complaints]
    raised = outcome.raised
    if raised is not None and not raised["ours"] and raised["type"] not in OUT_OF_THE_BLOCK:
        wrong.append(f"{raised['type']} came out: {raised['text']}")
    if outcome.died and not outcome.hit:
        wrong.append("it died of itself")
    return wrong


async def opened_anew(job: str, directory: Path, outcome: Outcome, *, taken: bool) -> list[str]:
    """What is wrong when somebody opens it who knows nothing."""
    session, hooks, adopted = session_of(job), Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, adopted.append)
    transcripts = Transcripts(directory, lock_timeout=5, hooks=hooks)
    try:
        async with transcripts.open(session) as transcript:
            found = said(transcript.entries)
            await transcript.append(user("next"))
        read = said(await transcripts.read(session))
        listed = await transcripts.list()
    except Exception as error:
        return [f"the next open failed: {type(error).__name__}: {error}"]
    wrong = [f"the last entry is {read[-1]}"] if read != [*found, "next"] else []
    wrong += [] if listed == tuple(sorted({"old", session})) else [f"listed are {listed}"]
    wrong += [f"adopted as {event.kind}" for event in adopted if not taken]
    wrong += [] if inspect(directory / f"{session}.jsonl").is_well else ["it is not well"]
    return wrong + held_against(job, directory, outcome, found)


def held_against(job: str, directory: Path, outcome: Outcome, found: list[str]) -> list[str]:
    """What is wrong with the entries, and with the words that are not among them."""
    if session_of(job) == "old" and found[:1] != ["zero"]:
        return [f"what was there before is gone: {found}"]
    texts = [text for text in found if text != "zero"]
    wrong = [] if texts == list(WANTED[: len(texts)]) else [f"the entries are {texts}"]
    if job in ("append", "short") and len(texts) == 2:
        wrong.append("one append is there in part")
    wrong += [f"{text} was acknowledged and is not there: {texts}" for text in outcome.stored if text not in texts]
    salvaged, notes = salvaged_in(directory), outcome.raised["text"] if outcome.raised else ""
    wrong += ["the salvage holds what is no entry"] if None in salvaged else []
    if job == "go back" and "one" not in (*texts, *salvaged):
        wrong.append(f"what was taken away is not in the salvage: {salvaged}")
    if job == "recover" and salvaged[:2] != ["torn", "torn too"]:
        wrong.append(f"what the dead writer left is not in the salvage: {salvaged}")
    if outcome.raised is not None:
        for text in outcome.raised["handed"]:
            if text not in (*texts, *salvaged) and f'"{text}"' not in notes:
                wrong.append(f"{text} is neither stored nor salvaged nor told: {outcome.raised}")
    return wrong


def salvaged_in(directory: Path) -> list[str | None]:
    """The texts in the salvage files, None for anything that is no entry of these jobs."""
    texts: list[str | None] = []
    for path in sorted(directory.glob("*.salvage.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                texts += [str(entry["content"]) for entry in json.loads(text)["entries"]]
            except (ValueError, KeyError):
                texts.append(None)
    return texts


async def die_half_way(directory: Path, files: Callable[[Faults], Files] = FaultyFiles, *, sync: bool = False) -> None:
    """Leave half of an append in the file, as a writer does that is killed in the middle of it."""
    store = JsonlTranscriptStore(directory, files=files(Faults(0, "kill", halves=True, only="append")), sync=sync)
    with suppress(Killed):
        await Transcripts(store).append("old", entry("torn"), entry("torn too"))
    assert not (directory / "old.jsonl").read_bytes().endswith(b"\n")
