"""The commands for transcripts: each does its work and returns data. Nothing here prints."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from turnlane.cli.arguments import RepairSettings, VerifySettings, WatchSettings
from turnlane.cli.exits import CommandFailed, ExitCode
from turnlane.errors import TranscriptError, TranscriptUnavailable
from turnlane.hooks import UnownedEditFound
from turnlane.transcripts import TranscriptMonitor
from turnlane.transcripts.inspection import Inspection, inspect, transcripts_at
from turnlane.transcripts.settling import adopt, cut_tail, raise_token

__all__ = ("RepairReport", "repair", "verdict", "verify", "watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What was settled.

    Attributes:
        path: of the transcript.
        adopted: the kind of change that was adopted; None for none.
        salvaged: where the tail is that was cut; None for none.
        token_before: the highest token before it was set; None where it was not.
        entries: how many there are now.
    """

    path: str
    adopted: str | None
    salvaged: str | None
    token_before: int | None
    entries: int | None


def verify(settings: VerifySettings) -> tuple[Inspection, ...]:
    """Hold transcripts against their journals. One in a directory that can not be looked at hides no other.

    Raises:
        CommandFailed: one that was named could not be read, or is not there.
    """
    state_dir, found = settings.state_dir, list[Inspection]()
    try:
        for named in settings.paths:
            for path in transcripts_at(named, state_dir=state_dir):
                try:
                    found.append(inspect(path, state_dir=state_dir))
                except TranscriptUnavailable as error:
                    if path == named:
                        raise
                    found.append(Inspection.of_trouble(path, error))
    except TranscriptError as error:
        raise CommandFailed(str(error)) from error
    return tuple(found)


def verdict(found: Sequence[Inspection]) -> ExitCode:
    """Return the exit status for what was found: what is to be settled counts more than what could not be judged."""
    if any(not (each.is_well or each.busy) for each in found):
        return ExitCode.VIOLATION
    return ExitCode.BUSY if any(each.busy for each in found) else ExitCode.OK


def repair(settings: RepairSettings) -> RepairReport:
    """Settle what was asked for, in this order: the tail, the content, the token.

    Raises:
        CommandFailed: it could not be done; what was done before stays.
    """
    try:
        path, state_dir, token = settings.path, settings.state_dir, settings.token
        transcripts_at(path, state_dir=state_dir)
        salvaged = cut_tail(path, state_dir=state_dir) if settings.cut_tail else None
        adopted = adopt(path, state_dir=state_dir) if settings.adopt else None
        before = None if token is None else raise_token(path, token, state_dir=state_dir)
        return RepairReport(
            path=str(path),
            adopted=None if adopted is None or adopted.finding is None else adopted.finding.kind,
            salvaged=salvaged,
            token_before=before,
            entries=inspect(path, state_dir=state_dir).entries,
        )
    except TranscriptError as error:
        raise CommandFailed(str(error)) from error


def watch(
    settings: WatchSettings, *, watching: Callable[[int], None], found: Callable[[UnownedEditFound], None]
) -> None:
    """Tell of unowned edits until Ctrl-C.

    Args:
        settings: what to watch.
        watching: called when it has begun, with the number of transcripts that are there.
        found: called with each of them.

    Raises:
        CommandFailed: there is no such directory.
    """
    if not settings.directory.is_dir():
        raise CommandFailed(f"{settings.directory} is no directory")
    with suppress(KeyboardInterrupt):  # the way to end it
        asyncio.run(_watch(settings, watching, found))


async def _watch(
    settings: WatchSettings, watching: Callable[[int], None], found: Callable[[UnownedEditFound], None]
) -> None:
    monitor = TranscriptMonitor(
        settings.directory, appends=settings.appends, recursive=settings.recursive, state_dir=settings.state_dir
    )
    async with monitor:
        watching(monitor.statistics().files)
        async with aclosing(aiter(monitor)) as events:
            async for event in events:
                found(event)
