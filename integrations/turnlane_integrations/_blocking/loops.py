"""`Loops`: the event loop for what a thread asks for."""

import asyncio
import os
from contextlib import suppress

from anyio import from_thread
from anyio.from_thread import BlockingPortal

from turnlane import Runtime
from turnlane_integrations._blocking.own_loop import OwnLoop, loop_here

__all__ = ("Loops",)


class Loops:
    """Finds it: that of the portal; else the one in which the lanes were used last; else the one this was made in; else
    the one that has started the thread, where anyio has (endpoints that are not async); else one of its own, in a
    thread that keeps no process alive. Each where it runs, and never that of this thread, nor of another process.
    """

    def __init__(self, runtime: Runtime | None, portal: BlockingPortal | None) -> None:
        if not isinstance(portal, BlockingPortal | None):
            raise ValueError(f"portal must be an anyio.from_thread.BlockingPortal, not {portal!r}")
        self.own: OwnLoop = OwnLoop(runtime)
        self._gate = None if runtime is None else runtime.lanes.gate
        self._portal = portal
        self._made_in = loop_here()
        self._process = os.getpid()

    def find(self) -> asyncio.AbstractEventLoop:
        """Return it."""
        here = loop_here()
        for look in (self._of_portal, self._of_lanes, self._of_maker, _of_host):
            with suppress(RuntimeError):  # there is none
                loop = look()
                if loop is not None and loop is not here and loop.is_running():
                    return loop
        return self.own.running()

    def _of_portal(self) -> asyncio.AbstractEventLoop | None:
        return None if self._portal is None else self._portal.call(asyncio.get_running_loop)

    def _of_lanes(self) -> asyncio.AbstractEventLoop | None:
        return self._gate.loop if self._gate is not None and self._gate.is_here else None

    def _of_maker(self) -> asyncio.AbstractEventLoop | None:
        return self._made_in if self._process == os.getpid() else None


def _of_host() -> asyncio.AbstractEventLoop:
    return from_thread.run_sync(asyncio.get_running_loop)
