"""`OwnLoop`: an event loop in a thread of its own."""

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from weakref import finalize

from turnlane import Runtime
from turnlane.errors import NotConfigured

__all__ = ("JOB", "OwnLoop", "loop_here")

Running = tuple[asyncio.AbstractEventLoop, asyncio.Event, threading.Thread]  # it, what stops it, and where it runs

JOB = "turnlane blocking"  # the name of tasks that stand for threads


class OwnLoop:
    """An event loop that runs from its first use until `close`, in a thread that keeps no process alive.

    It ends by itself when this is collected, and no thread is inside.

    Mutable: `_running`, and `_end` which ends that when this is collected, both under `_lock`.

    Args:
        runtime: what it has opened in the loop is closed by `close`.
    """

    def __init__(self, runtime: Runtime | None) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._end: finalize[..., object] | None = None

    def running(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        with self._lock:
            if self._running is None or not self._running[2].is_alive():  # not after a fork
                ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
                thread = threading.Thread(target=asyncio.run, args=(_serve(ready),), name="turnlane", daemon=True)
                thread.start()
                self._running = (*ready.result(), thread)
                self._end = finalize(self, _abandon, self._running)
                self._end.atexit = False  # it need not be waited for
            return self._running[0]

    def close(self) -> None:
        """End it, and what runs in it, and wait until it has ended. Harmless where it does not run."""
        with self._lock:
            running, end = self._running, self._end
            self._running = self._end = None
        if running is not None and end is not None and end.detach() is not None:
            _close(running, self._runtime)


def _close(running: Running, runtime: Runtime | None = None, *, cut: bool = True, aside: bool = False) -> None:
    loop, stop, thread = running
    if not thread.is_alive():  # it did not come along in a fork
        return
    if aside or loop_here() is not None:  # perhaps this one: nobody waits there
        threading.Thread(target=partial(_close, running, runtime, cut=cut), daemon=True).start()
        return
    try:
        asyncio.run_coroutine_threadsafe(_finish(runtime, cut), loop).result()
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _abandon(running: Running) -> None:
    """End it when nothing runs in it any more; that is not waited for by who may be inside."""
    loop, _, thread = running
    looks = thread.is_alive() and loop_here() is None
    busy = looks and bool(asyncio.run_coroutine_threadsafe(_jobs(), loop).result())
    _close(running, cut=False, aside=busy)


async def _serve(ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    stop = asyncio.Event()
    ready.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()


async def _jobs() -> set["asyncio.Task[object]"]:
    return {each for each in asyncio.all_tasks() if each.get_name() == JOB}


async def _finish(runtime: Runtime | None, cut: bool) -> None:
    while jobs := await _jobs():
        for each in jobs if cut else ():
            each.cancel()
        await asyncio.wait(jobs)
    if runtime is not None:
        with suppress(NotConfigured):  # lanes that were never used
            if runtime.lanes.gate.loop is asyncio.get_running_loop():
                await runtime.aclose()


def loop_here() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
