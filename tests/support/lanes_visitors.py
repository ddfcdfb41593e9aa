"""Tasks that visit lanes as a test tells them to, and a loop on which tests of seconds take none."""

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec

from support.seeded_loop import LoopClock, SeededLoop, until_blocked
from turnlane import Lanes, Turn
from turnlane.policies import Policy

__all__ = ("Visitor", "loop_lanes", "on_virtual_time", "running_loop")

P = ParamSpec("P")


def on_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on a loop with the order of a plain one, on which time jumps: nothing is waited for.

    A test that would hang fails at once. What is still running at its end is cancelled.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with SeededLoop() as loop:
            loop.run(test(*args, **kwargs))

    return run


def running_loop() -> SeededLoop:
    """Return the running loop of a test on virtual time."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, SeededLoop):
        raise TypeError(f"not a SeededLoop: {loop!r}")
    return loop


def loop_lanes(**options: Any) -> Lanes:
    """Return lanes that read the time of the running loop, so that waits and ages are exact."""
    options.setdefault("slow_after", None)
    return Lanes(clock=LoopClock(running_loop()), **options)


class Visitor:
    """A task that takes one turn and holds it until `release`; a stranger to every other turn unless `inside`.

    Args:
        lanes, key, policy, turn_timeout, message, principal: as for `lanes.turn`.
        during: what it does inside its turn instead of waiting for `release`.
        inside: whether it is a child of the turn that makes it.

    Mutable: `turn` (from its start on), `began` and `ended` (by the loop's clock), `cancels` (how often a cancellation
    reached `hold`).
    """

    def __init__(
        self,
        lanes: Lanes,
        key: str = "a",
        *,
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
        during: "Callable[[Visitor], Awaitable[object]] | None" = None,
        inside: bool = False,
        message: Any = None,
        principal: object = None,
    ) -> None:
        self.entered = asyncio.Event()
        self.released = asyncio.Event()
        self.turn: Turn | None = None
        self.began: float | None = None
        self.ended: float | None = None
        self.cancels = 0
        self._scope = lanes.turn(key, policy=policy, turn_timeout=turn_timeout, message=message, principal=principal)
        self._during = during
        self._loop = asyncio.get_running_loop()
        context = contextvars.copy_context() if inside else contextvars.Context()
        self.task: asyncio.Task[None] = self._loop.create_task(self._visit(), context=context)
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())  # asked for only where it counts

    async def _visit(self) -> None:
        async with self._scope as turn:
            self.turn, self.began = turn, self._loop.time()
            self.entered.set()
            try:
                await (self.released.wait() if self._during is None else self._during(self))
            finally:
                self.ended = self._loop.time()

    @property
    def held(self) -> Turn:
        """The turn it has, or had."""
        if self.turn is None:
            raise RuntimeError("this visitor has not had its turn")
        return self.turn

    @property
    def waiting(self) -> bool:
        """Whether it has not had its turn and may still get it."""
        return self.turn is None and not self.task.done()

    async def arrived(self) -> "Visitor":
        """Wait until it runs, or waits for something, while no time passes."""
        await until_blocked()
        return self

    async def hold(self, seconds: float) -> None:
        """Stay for so long whatever happens, and count the cancellations that come meanwhile."""
        end = self._loop.time() + seconds
        while self._loop.time() < end:
            try:
                await asyncio.sleep(end - self._loop.time())
            except asyncio.CancelledError:
                self.cancels += 1

    def release(self) -> None:
        """Let it end its turn."""
        self.released.set()

    async def leave(self) -> None:
        """Let it end its turn, and wait until it has."""
        self.release()
        await self.task

    async def result(self) -> BaseException | None:
        """Wait until it has ended, and return what it ended with."""
        await asyncio.wait((self.task,))
        return asyncio.CancelledError() if self.task.cancelled() else self.task.exception()
