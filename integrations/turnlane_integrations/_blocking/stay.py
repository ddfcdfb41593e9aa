"""`Stay`: what a thread has while it is inside an async context manager."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from contextvars import Context, copy_context
from typing import Any, ParamSpec, TypeVar

__all__ = ("Stay",)

logger: logging.Logger = logging.getLogger("turnlane.integrations")

END: Any = object()

P = ParamSpec("P")
T = TypeVar("T")


class Stay:
    """What a thread has while it is inside; see `Blocking.inside`.

    Mutable: `is_cut`, whether the task was cancelled since; `entered`, with the context of the task once it is inside;
    `_left` and `_error`, what the thread has told.
    """

    def __init__(
        self,
        make: Callable[[], AbstractAsyncContextManager[object]],
        on_cancel: Callable[[], Awaitable[object]] | None,
    ) -> None:
        self.is_cut: bool = False
        self.entered: Future[Context] = Future()
        self._make = make
        self._on_cancel = on_cancel
        self._left = asyncio.Event()
        self._error: BaseException | None = None

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in this thread and in the context of the task, where `current_turn()` is the turn."""
        return self.entered.result().run(function, *args, **kwargs)

    def each(self, function: Callable[P, Iterator[T]], *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        """Yield what the generator yields that a function returns; both are called as by `call`."""
        items: Any = self.call(function, *args, **kwargs)
        try:
            while (item := self.call(next, items, END)) is not END:
                yield item
        finally:
            self.call(items.close)

    async def hold(self) -> None:
        """Be inside until the thread has left: what the task does."""
        async with self._make():
            self.entered.set_result(copy_context())
            asking: list[asyncio.Task[None]] = []
            while not self._left.is_set():
                try:
                    await self._left.wait()
                except asyncio.CancelledError:
                    self.is_cut = True
                    if self._on_cancel is not None:
                        asking.append(asyncio.create_task(_asked(self._on_cancel)))
            for each in asking:
                each.cancel()
            if self.is_cut:
                raise asyncio.CancelledError
            if self._error is not None:
                raise self._error

    def leave(self, error: BaseException | None) -> None:
        """Note, in the loop, that the thread has left.

        Args:
            error: what the block has raised.
        """
        # What ends a thread must not end the loop.
        self._error = error if error is None or isinstance(error, Exception) else asyncio.CancelledError()
        self._left.set()


async def _asked(on_cancel: Callable[[], Awaitable[object]]) -> None:
    try:
        await on_cancel()
    except Exception:  # the block is still to be waited for
        logger.exception("cancel_not_passed_on")
