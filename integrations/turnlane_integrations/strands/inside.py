"""Inside of which sessions' agents this runs, as a tool of one does, or what a tool has begun."""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field

from turnlane import Lanes
from turnlane.errors import LaneReentry

__all__ = ("inside",)


@dataclass(slots=True)
class _Running:
    """One invocation. Mutable: `over`, which what it has left behind sees too."""

    lanes: Lanes
    session_id: str
    over: bool = field(default=False)


_running: ContextVar[tuple[_Running, ...]] = ContextVar("turnlane_strands_running", default=())


@contextmanager
def inside(lanes: Lanes, session_id: str) -> Generator[None, None, None]:
    """Be inside of a session's agent, for the block.

    Raises:
        LaneReentry: this is inside of one already, whoever has made it.
    """
    around = tuple(each for each in _running.get() if not each.over)
    if any(each.lanes is lanes and each.session_id == session_id for each in around):
        raise LaneReentry(session_id, cycle=(session_id, session_id))
    here = _Running(lanes, session_id)
    token = _running.set((*around, here))
    try:
        yield
    finally:
        here.over = True
        with suppress(ValueError):  # a stream that was dropped is closed in another context
            _running.reset(token)
