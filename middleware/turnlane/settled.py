"""Finishing what has begun before a cancellation is reported."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

__all__ = ("settled",)

_T = TypeVar("_T")


async def settled(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work` to its end, also if the caller is cancelled meanwhile; then report the cancellation.

    It holds against `task.cancel()` and against cancel scopes. The end of the event loop still cancels `work`. What
    `work` raised is lost if the caller was cancelled: a cancellation wins.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # looked at, so that the loop does not complain that nobody did
    raise cancelled
