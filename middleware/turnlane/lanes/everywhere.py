"""What an operator asks of all processes that share lanes, and waits for."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from turnlane import errors
from turnlane.engines.base import Engine, LaneView
from turnlane.lanes.shared import SharedGate

__all__ = ("drain_everywhere", "undrain_everywhere", "views_everywhere")

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0

_T = TypeVar("_T")


async def views_everywhere(gate: SharedGate) -> list[LaneView]:
    """Return the lanes of all processes, by key.

    Raises:
        EngineUnavailable: the engine does not answer.
    """
    try:
        return await _asked(gate, "look at lanes", lambda engine: engine.look())
    except errors.OutcomeUnknown as error:  # there was nothing to be done
        raise errors.EngineUnavailable(error.where, operation=error.operation, reason=error.reason) from error


async def drain_everywhere(gate: SharedGate, timeout: float | None) -> int:
    """Have all processes drain, wait until no turn runs any more, and return how many do.

    They are told again and again: one that does not hear it the first time hears it later.

    Raises:
        EngineUnavailable, OutcomeUnknown: the engine does not answer.
    """
    now = asyncio.get_running_loop().time
    until, pause = math.inf if timeout is None else now() + timeout, FIRST_PAUSE
    while True:
        await _asked(gate, "drain all workers", lambda engine: engine.pause(None, True))
        views = await views_everywhere(gate)
        rest = until - now()
        if rest <= 0 or not any(view.holder or view.waiting for view in views):
            return sum(view.holder is not None for view in views)
        await asyncio.sleep(min(pause, rest))
        pause = min(2 * pause, LONGEST_PAUSE)


async def undrain_everywhere(gate: SharedGate) -> None:
    """Have all processes take new turns again, as far as they hear it. Raises as `drain_everywhere`."""
    await _asked(gate, "end the drain of all workers", lambda engine: engine.pause(None, False))


async def _asked(gate: SharedGate, operation: str, step: Callable[[Engine], Awaitable[_T]]) -> _T:
    answered: asyncio.Future[_T] = asyncio.get_running_loop().create_future()

    def then(answer: _T | errors.EngineUnavailable | errors.OutcomeUnknown) -> None:
        if answered.done():
            return
        if isinstance(answer, errors.EngineUnavailable | errors.OutcomeUnknown):
            answered.set_exception(answer)
        else:
            answered.set_result(answer)

    gate.order("", operation, step, then)
    return await answered
