"""Draining at SIGTERM: whoever waits is answered at once, not when the server has waited for everybody."""

import asyncio
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from turnlane.lanes import Lanes

__all__ = ("draining_on_sigterm",)


@contextmanager
def draining_on_sigterm(lanes: Lanes) -> Generator[None, None, None]:
    """Drain `lanes` when SIGTERM arrives inside the block, then call the handler that was there before.

    Does nothing outside the main thread, and where nobody handles the signal: the process then ends anyway.
    Not guaranteed: that it is heard once somebody else installs a handler that does not call this one.
    """
    previous = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    loop = asyncio.get_running_loop()
    started: list[asyncio.Task[int]] = []

    def drain() -> None:
        started.append(loop.create_task(lanes.drain(timeout=0)))

    def on_signal(number: int, frame: FrameType | None) -> None:
        # A signal handler runs between any two instructions: the lanes are touched by the loop alone.
        if not loop.is_closed():
            loop.call_soon_threadsafe(drain)
        previous(number, frame)

    signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is on_signal:
            signal.signal(signal.SIGTERM, previous)
        for task in started:
            task.cancel()
