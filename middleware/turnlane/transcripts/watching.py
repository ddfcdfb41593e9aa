"""Being told of changes in a directory, by watchfiles, in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable

from anyio import CapacityLimiter, to_thread

from turnlane.transcripts.working import to_its_end

__all__ = ("Changes", "Watcher", "watch")

# Seconds from one look for changes to the next. Each wakes a thread, which is most of what a monitor takes at rest; a
# change is told half a pause after it was made on average, and a whole one at most, and two milliseconds of work.
PAUSE = 0.020

Changes = Callable[[frozenset[str]], None]
"""Given the paths of what has changed."""

Watcher = Callable[[str, bool, Changes, Callable[[], None], threading.Event], None]
"""Watches a directory until the event is set: directory, whether what is below it too, whom to tell, whom to tell once
it watches, and that event. Runs in a thread. May lose, merge and repeat what it tells, and may end by itself."""


class Pauses:
    """What watchfiles asks, before each look for changes, whether to stop; every other answer takes a pause.

    watchfiles yields what two looks have found, one step apart. Here its steps take no time, and two looks follow each
    pause: half the wake-ups that steps of its own take for the same delay. That it asks tells that it watches.
    """

    def __init__(self, stop: threading.Event, started: Callable[[], None]) -> None:
        self._stop = stop
        self._started: Callable[[], None] | None = started
        self._again = False
        # Never released: to wait for it is a pause. `Event.wait` makes a lock each time: half as much again per pause.
        self._lock = threading.Lock()
        self._lock.acquire()

    def is_set(self) -> bool:
        if self._started is not None:
            self._started()
            self._started = None
        self._again = not self._again
        if self._again:
            self._lock.acquire(timeout=PAUSE)
        return self._stop.is_set()

    def set(self) -> None:
        self._stop.set()


def watch(
    directory: str, recursive: bool, changes: Changes, started: Callable[[], None], stop: threading.Event
) -> None:
    """Watch with watchfiles.

    Raises:
        OSError: the directory is not there, or the system lets nobody watch more.
    """
    from watchfiles import watch as watched  # it takes a while to import, and not everybody watches

    rounds = watched(
        directory,
        watch_filter=None,
        debounce=0,
        step=0,
        stop_event=Pauses(stop, started),
        rust_timeout=0,  # at the end of one, watchfiles forgets what it was told of in that moment
        raise_interrupt=False,
        recursive=recursive,
    )
    for found in rounds:
        changes(frozenset(path for _, path in found))


async def watching(
    watcher: Watcher, directory: str, *, recursive: bool, changes: Changes, started: Callable[[], None]
) -> None:
    """Run a watcher until it ends or this is cancelled; its thread has ended when this returns.

    Args:
        watcher: what watches.
        directory: what to watch.
        recursive: whether to watch what is below it too.
        changes: called in the event loop.
        started: called in the event loop when it watches.

    Raises:
        Exception: of the watcher.
    """
    loop, stop = asyncio.get_running_loop(), threading.Event()

    def tell(paths: frozenset[str]) -> None:
        if not stop.is_set():
            loop.call_soon_threadsafe(changes, paths)

    def tell_started() -> None:
        loop.call_soon_threadsafe(started)

    def run() -> None:
        watcher(directory, recursive, tell, tell_started, stop)

    # A limiter of its own: the thread must not take one of those that everything else shares.
    thread = asyncio.ensure_future(to_thread.run_sync(run, limiter=CapacityLimiter(1)))
    try:
        await asyncio.wait({thread})
    finally:
        stop.set()
        await to_its_end(thread)
