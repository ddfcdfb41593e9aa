"""What happens to a transcript while the model thinks: another process appends to it, or somebody edits the file."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from turnlane.cli.demo.verdict import Check
from turnlane.errors import TranscriptTakeover
from turnlane.transcripts import Transcripts

__all__ = ("ReleaseFacts", "judge_release", "run_release")

SESSION = "session-1"
QUESTION = "user: where is my parcel?"
REPLY = "assistant: Let me see: it is on its way."
NEXT = "user: thank you"
DELIVERED = "the parcel has arrived"

Meanwhile = Callable[[Transcripts, Path], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFacts:
    """One turn that let go of its transcript while the model was called.

    Attributes:
        meanwhile: what was done to the transcript then.
        changes: entries of others the turn was told of on its way back.
        refused: the error that stopped the turn; None if it went on.
        kind: what the error says was done, and `line` where.
        stored: the transcript afterwards, `role: content` each, oldest first.
        salvaged: what is in the salvage file.
        next_turn: how many entries the next turn found, before it stored its own.
    """

    meanwhile: str
    changes: int
    refused: str | None
    kind: str | None
    line: int | None
    stored: tuple[str, ...]
    salvaged: tuple[str, ...]
    next_turn: int


def run_release(directory: Path) -> tuple[ReleaseFacts, ...]:
    """Run both scenes with real files, the first with a second process.

    Raises:
        TranscriptError: the directory can not hold transcripts.
        OSError: the second process could not be started.
    """
    return asyncio.run(_scenes(directory))


async def _scenes(directory: Path) -> tuple[ReleaseFacts, ...]:
    return (
        await _scene(directory / "appended", "a second process appends to the transcript", _another_process),
        await _scene(directory / "edited", "somebody edits the file by hand", _by_hand),
    )


async def _scene(directory: Path, name: str, meanwhile: Meanwhile) -> ReleaseFacts:
    changes, error = 0, None
    async with Transcripts(directory) as transcripts:
        try:
            async with transcripts.open(SESSION) as transcript:
                await transcript.append(_entry(QUESTION))
                async with transcript.released() as prompt:  # here the model is called
                    await meanwhile(transcripts, Path(transcript.path))
                    prompt.stage(_entry(REPLY))
                changes = len(prompt.changes)
        except TranscriptTakeover as takeover:
            error = takeover
        async with transcripts.open(SESSION) as transcript:
            found = len(transcript.entries)
            await transcript.append(_entry(NEXT))
        stored = tuple(_words(entry) for entry in await transcripts.read(SESSION))
    return ReleaseFacts(
        meanwhile=name,
        changes=changes,
        refused=None if error is None else str(error),
        kind=None if error is None else error.kind,
        line=None if error is None else error.line,
        stored=stored,
        salvaged=_salvaged(directory),
        next_turn=found,
    )


async def _another_process(transcripts: Transcripts, path: Path) -> None:
    programme = (sys.executable, "-m", "turnlane.cli.demo.courier", transcripts.store.where, SESSION, DELIVERED)
    process = await asyncio.create_subprocess_exec(*programme)
    if await process.wait() != 0:
        raise OSError(f"the second process ended with status {process.returncode}")


async def _by_hand(transcripts: Transcripts, path: Path) -> None:
    await asyncio.to_thread(_edit, path)


def _edit(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace("parcel", "package"), encoding="utf-8")


def _entry(words: str) -> dict[str, str]:
    role, _, content = words.partition(": ")
    return {"role": role, "content": content}


def _words(entry: object) -> str:
    return f"{entry['role']}: {entry['content']}" if isinstance(entry, dict) else str(entry)


def _salvaged(directory: Path) -> tuple[str, ...]:
    kept: list[str] = []
    for path in directory.glob("*.salvage.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            kept += [_words(entry) for entry in json.loads(line).get("entries", ())]
    return tuple(kept)


def judge_release(facts: tuple[ReleaseFacts, ...]) -> tuple[Check, ...]:
    """Return every check on both scenes, kept or broken, always in the same order."""
    appended, edited = facts
    expected = (QUESTION, f"tool: {DELIVERED}", REPLY, NEXT)
    return (
        _check(
            "an owned append during the model call is accepted, and the turn is told",
            appended.changes == 1 and appended.refused is None,
            f"{appended.changes} changes told, refused: {appended.refused}",
        ),
        _check("the reply is stored behind it", appended.stored == expected, f"stored: {appended.stored}"),
        _check(
            "a hand edit during the model call stops the turn, with its line",
            (edited.kind, edited.line) == ("edited", 1),
            f"refused: {edited.refused}",
        ),
        _check(
            "the reply that could not be stored is in the salvage",
            edited.salvaged == (REPLY,) and not appended.salvaged,
            f"salvaged: {edited.salvaged}, and {appended.salvaged} of the other turn",
        ),
        _check(
            "the next turn goes on with what is there",
            (edited.next_turn, len(edited.stored)) == (1, 2),
            f"it found {edited.next_turn} entries and left {len(edited.stored)}",
        ),
    )


def _check(name: str, kept: bool, otherwise: str) -> Check:
    return Check(name=name, violations=() if kept else (otherwise,))
