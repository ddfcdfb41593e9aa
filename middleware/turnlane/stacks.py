"""Where a task stands: asyncio itself shows only the outermost line of one that waits."""

import asyncio
import gc
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

__all__ = ("before_resuming", "stack_of", "waits_for_thread")

AWAITING = (("cr_frame", "cr_await"), ("ag_frame", "ag_await"), ("gi_frame", "gi_yieldfrom"))

# What `await` and `async for` make of an async generator's steps, and of a coroutine's `__await__`.
WRAPPERS = frozenset({"async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "anext_awaitable"})

# The functions that wait for a worker thread: the last is what Starlette, FastAPI and anyio itself use.
THREADED = frozenset({("asyncio.threads", "to_thread"), ("anyio._backends._asyncio", "run_sync_in_worker_thread")})


def stack_of(coroutine: object) -> Iterator[str]:
    """Yield the lines at which a chain of coroutines and generators waits, the outermost first."""
    for frame in _frames(coroutine):
        yield from traceback.format_stack(frame, limit=1)


def waits_for_thread(coroutine: object) -> bool:
    """Tell whether a chain of coroutines and generators waits for a worker thread, as a `def` endpoint does.

    Not seen: a thread that a child task waits for, and one behind a bare `run_in_executor`.
    """
    innermost = next(reversed(list(_frames(coroutine))), None)
    # Further in there would be what it does before the thread has begun: waiting for one to be free.
    return innermost is not None and (innermost.f_globals.get("__name__"), innermost.f_code.co_name) in THREADED


def before_resuming(task: "asyncio.Task[Any]", callback: "Callable[[asyncio.Future[Any]], None]") -> bool:
    """Call `callback` once, when the future a task waits for is done and the task has not gone on yet.

    asyncio has no public way to be told in that moment: the callback is put before the task's own on the future it
    waits for. Where a Python or an event loop keeps these elsewhere, nothing happens and False is returned.
    """
    future: asyncio.Future[Any] | None = getattr(task, "_fut_waiter", None)
    if not isinstance(future, asyncio.Future) or future.done():
        return False
    waiting: list[tuple[Callable[[Any], object], Any]] | None = getattr(future, "_callbacks", None)
    if waiting is None:
        return False
    waiting = list(waiting)
    for own, _ in waiting:
        future.remove_done_callback(own)
    future.add_done_callback(callback)
    for own, context in waiting:
        future.add_done_callback(own, context=context)
    return True


def _frames(coroutine: object) -> Iterator[FrameType]:
    following: object = coroutine
    while following is not None:
        found = _frame_of(following)
        if found is None:
            following = _behind(following)
        else:
            frame, following = found
            yield frame


def _frame_of(coroutine: object) -> tuple[FrameType, object] | None:
    for frame_name, await_name in AWAITING:
        frame = getattr(coroutine, frame_name, None)
        if frame is not None:
            return frame, getattr(coroutine, await_name, None)
    return None


def _behind(awaitable: object) -> object:
    """Return the generator or coroutine that one of the interpreter's own awaitables stands for, which do not tell."""
    if type(awaitable).__name__ not in WRAPPERS:
        return None
    return next((other for other in gc.get_referents(awaitable) if _frame_of(other) is not None), None)
