"""The refusals of one invocation: some are swallowed, since strands tells its model of a tool that has failed."""

import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar

from turnlane_integrations.strands.refusal import SessionChanged, refusal_behind

__all__ = ("noted", "refusals_kept")

logger: logging.Logger = logging.getLogger("turnlane.integrations")

_refusals: ContextVar[list[SessionChanged] | None] = ContextVar("turnlane_strands_refusals", default=None)


def noted(refusal: SessionChanged) -> SessionChanged:
    """Return a refusal that is about to be raised; its words are kept at the end of the invocation at the latest."""
    refusals = _refusals.get()
    if refusals is not None:
        refusals.append(refusal)
    return refusal


@asynccontextmanager
async def refusals_kept() -> AsyncGenerator[None, None]:
    """Keep, behind the block, the words of all that was refused inside of it; but for the refusal that it raises.

    Raises:
        TranscriptError: the salvage could not keep them.
    """
    refusals: list[SessionChanged] = []
    token = _refusals.set(refusals)
    try:
        yield
    except BaseException as error:
        raised = refusal_behind(error) if isinstance(error, Exception) else None  # a cancellation tells of none
        await _keep(refusal for refusal in refusals if refusal is not raised)
        raise
    else:
        await _keep(refusals)
    finally:
        with suppress(ValueError):  # a stream that was dropped is closed in another context
            _refusals.reset(token)


async def _keep(refusals: Iterable[SessionChanged]) -> None:
    for refusal in refusals:
        logger.warning("session_changed session=%s: %s", refusal.session_id, await refusal.settle())
