"""What is done about an unowned edit, and about words that could not be stored."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from turnlane.errors import TranscriptTakeover, TranscriptUnavailable
from turnlane.hooks import Hooks, TailLost
from turnlane.transcripts.contract import Author, TranscriptHandle, TranscriptStore
from turnlane.transcripts.finding import Finding

__all__ = ("TakeoverDecision", "TakeoverPolicy", "accepts", "rescue", "takeover_of", "tell_loss", "told_again")

logger: logging.Logger = logging.getLogger("turnlane.transcripts")

TakeoverDecision = Literal["raise", "accept"]
TakeoverPolicy = TakeoverDecision | Callable[[TranscriptTakeover], TakeoverDecision | Awaitable[TakeoverDecision]]
"""What a turn does when it finds an unowned edit: raise, adopt what is there and go on, or ask a callable."""


def takeover_of(
    finding: Finding, handle: TranscriptHandle, author: Author, *, phase: str, salvaged: str | None = None
) -> TranscriptTakeover:
    """Return the error that tells of a finding."""
    return TranscriptTakeover(
        handle.path,
        kind=finding.kind,
        offset=finding.offset,
        line=finding.line,
        expected=finding.expected_words,
        found=finding.found_words,
        phase=phase,
        turn=author.turn or None,
        salvaged=salvaged,
        remedy=handle.remedy,
    )


def told_again(error: TranscriptTakeover, salvaged: str | None) -> TranscriptTakeover:
    """Return the same error for further words, which are in `salvaged`."""
    return TranscriptTakeover(
        error.path,
        kind=error.kind,
        offset=error.offset,
        line=error.line,
        expected=error.expected,
        found=error.found,
        phase=error.phase,
        turn=error.turn,
        salvaged=salvaged or error.salvaged,
        remedy=error.remedy,
    )


async def accepts(policy: TakeoverPolicy, error: TranscriptTakeover, *, timeout: float) -> bool:
    """Ask a policy; one that does not answer within `timeout` seconds does not accept.

    Raises:
        ValueError: a callable answered something else than `raise` or `accept`.
    """
    decision: object = policy(error) if callable(policy) else policy
    if inspect.isawaitable(decision):
        bound = asyncio.timeout(timeout)
        try:
            async with bound:
                decision = await decision
        except TimeoutError:
            if not bound.expired():
                raise
            logger.warning("on_takeover_silent path=%s seconds=%g: it is taken for 'raise'", error.path, timeout)
            decision = "raise"
    if decision not in ("raise", "accept"):
        raise ValueError(f"on_takeover must say 'raise' or 'accept', not {decision!r}")
    return decision == "accept"


async def rescue(
    store: TranscriptStore, session_id: str, lines: Sequence[bytes], author: Author, *, reason: BaseException
) -> str | None:
    """Salvage what could not be stored, and say where; None where there is nothing, or it could not be salvaged.

    In the latter case the error that is being told of gets a note with the words, so that they are not lost silently.
    """
    if not lines:
        return None
    try:
        return await store.salvage(session_id, lines, author, reason=f"{type(reason).__name__}: {reason}")
    except TranscriptUnavailable as error:
        reason.add_note(f"{error}; the entries were:")
        for line in lines:
            reason.add_note(line.decode(errors="replace"))
        return None


def tell_loss(hooks: Hooks, handle: TranscriptHandle, session_id: str, author: Author) -> None:
    """Tell of what a power loss took of a transcript, if its handle has found that."""
    loss = handle.take_loss()
    if loss is None:
        return
    logger.warning("tail_lost path=%s lost=%d kept=%d: the power failed", handle.path, loss.lost, loss.kept)
    if hooks.wants(TailLost):
        event = TailLost(path=handle.path, session_id=session_id, turn=author.turn, lost=loss.lost, kept=loss.kept)
        hooks.emit(event)
