"""One call of an ASGI app: what goes in, what comes out, and how it ends."""

import asyncio
import contextvars
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Self

import anyio

from turnlane.stacks import stack_of

__all__ = ("AsgiApp", "AsgiProtocolViolation", "Exchange", "Message", "require")

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

# Passes of the loop in which a healthy app gets to where it waits; then anyio is asked, which sleeps if it did not.
PASSES = 50


class AsgiProtocolViolation(AssertionError):
    """The app broke a rule of the ASGI specification; raised in the app's `send` and to the tester."""


def require(condition: bool, problem: str) -> None:
    """Raise `AsgiProtocolViolation` unless `condition` holds."""
    if not condition:
        raise AsgiProtocolViolation(problem)


class Exchange(ABC):
    """One call of the app in a task of its own, with an empty context, as a server makes it.

    What the app raises is raised to the tester by the next call that waits for it, or on leaving `async with`,
    which also cancels the app if it still runs. Every wait is bounded by the driver's `deadline`.

    Attributes:
        scope: what the app was called with.
        messages: everything the app has sent so far, also after the client left.
        task: the task that runs the app.

    Mutable: `_incoming` is what the app has not received yet; `_read` counts the messages the tester has taken;
    `_waiting` are the futures of whoever waits for any of this to change.
    """

    def __init__(
        self, app: AsgiApp, scope: MutableMapping[str, Any], *, deadline: float, backpressure: bool = False
    ) -> None:
        self.scope = scope
        self.messages: list[Mapping[str, Any]] = []
        self._incoming: deque[Message] = deque()
        self._read = 0
        self._gone = False
        self._deadline = deadline
        self._backpressure = backpressure
        self._violation: AsgiProtocolViolation | None = None
        self._told: BaseException | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self.task: asyncio.Task[None] = asyncio.get_running_loop().create_task(
            self._run(app), context=contextvars.Context()
        )
        self.task.add_done_callback(self._ended)

    def __repr__(self) -> str:
        state = "ended" if self.task.done() else "running"
        return f"<{type(self).__name__} {self.scope.get('path', '')} {state} sent={len(self.messages)}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cancel()
        failure = self._failure()
        if error is None and failure is not None and failure is not self._told:
            raise failure

    async def next_message(self) -> Mapping[str, Any]:
        """Return the next message of the app.

        Raises:
            EOFError: the app has said everything it may say.
            AsgiProtocolViolation: it returned without having said everything, or broke another rule.
        """
        await self._until(lambda: len(self.messages) > self._read or self._complete(), "sent another message")
        if len(self.messages) == self._read:
            raise EOFError("the app has sent its last message")
        self._read += 1
        self._wake()
        return self.messages[self._read - 1]

    async def until_idle(self) -> None:
        """Wait until every other task of the loop is blocked, the app's too: nothing more happens by itself.

        A task that waits for a timer or a thread counts as blocked.
        """
        with anyio.fail_after(self._deadline):
            for _ in range(PASSES):
                await asyncio.sleep(0)
            await anyio.wait_all_tasks_blocked()
        self._raise_failure()

    async def finished(self) -> None:
        """Wait until the app's call has returned, with what it runs after the response; raise what it raised."""
        await self._until(self.task.done, "returned")
        self._raise_failure()

    async def cancel(self) -> None:
        """Cancel the app's task, if it still runs, and wait until it has ended.

        What the app raises instead is raised by the next call that waits, or on leaving `async with`.

        Raises:
            TimeoutError: it did not end within the deadline.
        """
        if self.task.done():
            return
        self.task.cancel()
        _, running = await asyncio.wait({self.task}, timeout=self._deadline)
        if running:
            raise TimeoutError(self._late("ended after it was cancelled"))

    @abstractmethod
    def _check(self, message: Message) -> None:
        """Raise `AsgiProtocolViolation` if the app may not send this now; else note what it changes."""

    @abstractmethod
    def _complete(self) -> bool:
        """Tell whether the app has said everything."""

    @abstractmethod
    def _farewell(self) -> Message | None:
        """Return what the app receives once nothing else comes, or None while something may come."""

    def _give(self, message: Message) -> None:
        self._incoming.append(message)
        self._wake()

    async def _run(self, app: AsgiApp) -> None:
        await app(self.scope, self._receive, self._send)

    async def _receive(self) -> Message:
        while not self._incoming:
            farewell = self._farewell()
            if farewell is not None:
                return farewell
            await self._change()
        return self._incoming.popleft()

    async def _send(self, message: Message) -> None:
        try:
            require(isinstance(message.get("type"), str), f"a message without a type: {message!r}")
            self._check(message)
        except AsgiProtocolViolation as violation:
            self._violation = self._violation or violation
            self._wake()
            raise
        if self._gone and self.scope["asgi"]["spec_version"] >= "2.4":
            raise OSError("the client has left")
        self.messages.append(dict(message))
        mine = len(self.messages)
        self._wake()
        while self._backpressure and self._read < mine and not self._gone:
            await self._change()

    async def _until(self, ready: Callable[[], bool], what: str) -> None:
        guard = asyncio.timeout(self._deadline)
        try:
            async with guard:
                while not ready():
                    self._raise_failure()
                    if self.task.cancelled():
                        raise RuntimeError(f"the app was cancelled before it {what}")
                    require(not self.task.done(), f"the app returned before it {what}")
                    await self._change()
        except TimeoutError:
            if guard.expired():
                raise TimeoutError(self._late(what)) from None
            raise

    async def _change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # It is told to the tester; asyncio need not log it.
        self._wake()

    def _failure(self) -> BaseException | None:
        if self._violation is None and self.task.done() and not self.task.cancelled():
            return self.task.exception()
        return self._violation

    def _raise_failure(self) -> None:
        self._told = failure = self._failure()
        if failure is not None:
            raise failure

    def _late(self, what: str) -> str:
        where = "".join(stack_of(self.task.get_coro())) or "  its end\n"
        return f"the app has not {what} within {self._deadline:g} s; it stands at\n{where}"
