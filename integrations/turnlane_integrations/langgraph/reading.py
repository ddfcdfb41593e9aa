"""`Reader`: what is known of a run by the context it has read its thread in."""

import asyncio
from collections.abc import Generator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar

from turnlane_integrations.langgraph.refusing import Refusal

__all__ = ("Reader", "note_reader", "reader_of")


class Reader:
    """Whoever has read a thread: a run, from then on. What the framework stores for it inherits its context.

    Mutable: `why`, once the run was refused to store something; `_underway`, one for each checkpoint being stored.
    """

    def __init__(self, place: object) -> None:
        self.place = place
        self.why: Refusal | None = None
        self._underway: set[Future[None]] = set()

    @contextmanager
    def storing(self) -> Generator[None, None, None]:
        """Store a checkpoint, for the block."""
        done: Future[None] = Future()
        self._underway.add(done)
        try:
            yield
        finally:
            self._underway.discard(done)
            done.set_result(None)

    def wait(self) -> None:
        """Return when the checkpoints are stored, or refused, that are being stored now."""
        wait(tuple(self._underway))

    async def settle(self) -> None:
        """Return when the checkpoints are stored, or refused, that are being stored now."""
        if underway := [asyncio.wrap_future(each) for each in tuple(self._underway)]:
            await asyncio.wait(underway)


_reader: ContextVar[Reader | None] = ContextVar("turnlane_langgraph_reader", default=None)


def note_reader(place: object) -> None:
    """Note that this context reads a thread; `place` is the thread in its checkpointer."""
    _reader.set(Reader(place))


def reader_of(place: object) -> Reader:
    """Return who has read a thread in this context; nobody has, and it stores: a new one, of which nothing is known."""
    reader = _reader.get()
    return reader if reader is not None and reader.place == place else Reader(place)
