"""A handler of a run whose result may be awaited by one who is cancelled."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar, cast

from workflows.events import StopEvent
from workflows.handler import WorkflowHandler

__all__ = ("LaneHandler",)

_T = TypeVar("_T")


class LaneHandler(WorkflowHandler):
    """Is a handler in all but one thing: who is cancelled while it awaits the result does not cut the run off.

    Workflows would lose sight of the step that runs then, which goes on by itself: it asks the model, and stores what
    it has said. Only `cancel_run` ends a run with its steps.
    """

    def __init__(self, handler: WorkflowHandler) -> None:
        self._handler = handler

    def __getattr__(self, name: str) -> Any:
        if name == "_handler":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self._handler, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        return _apart(_result_of(self._handler)).__await__()

    async def stop_event_result(self) -> StopEvent:
        """Return the event the run has ended with."""
        return await _apart(self._handler.stop_event_result())


async def _result_of(handler: WorkflowHandler) -> Any:
    return await cast("Coroutine[Any, Any, Any]", handler)


async def _apart(waiting: Coroutine[Any, Any, _T]) -> _T:
    """Await something in a task of its own, which is left alone when this is cancelled."""
    task = asyncio.ensure_future(waiting)
    task.add_done_callback(_looked_at)
    return await asyncio.shield(task)


def _looked_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # so that the loop does not complain where its waiter has left
