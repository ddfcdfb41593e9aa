"""A run of an agent that is streamed, in the task of its turn."""

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast
from weakref import ref

from agent_framework import AgentContext, AgentResponse, AgentResponseUpdate, ResponseStream

from turnlane import Turn

__all__ = ("StreamedRun", "updates_of")

Updates = ResponseStream[AgentResponseUpdate, AgentResponse]
Guard = Callable[[Turn], AbstractAsyncContextManager[None]]


class _Read(ResponseStream[AgentResponseUpdate, AgentResponse]):
    """What is read of a run. Hooks, gates, scopes and buffers that middleware puts on it are passed on to the run: they
    belong into its turn, and some are to be around what runs there.
    """

    run: Updates


def _passed_on(name: str) -> Callable[..., _Read]:
    def method(self: _Read, *args: Any, **kwargs: Any) -> _Read:
        getattr(self.run, name)(*args, **kwargs)
        return self

    return method


for _name in dir(ResponseStream):  # which of them there are depends on the version
    if _name.startswith(("with_", "_with_")) or _name == "buffer_updates":
        setattr(_Read, _name, _passed_on(_name))


class StreamedRun:
    """A run between the middleware, which begins it, and the turn's task, which reads it.

    It keeps nothing alive that whoever reads the stream has: one that is dropped is collected, and its turn ends.

    Args:
        context: that of the middleware.
        call_next: goes on to the agent.
        guard: held inside the turn, around all of the run.

    Mutable: all of it. `stream` is there when the run has begun, `response` when it was read to its end.
    """

    stream: Updates
    response: AgentResponse | None = None

    def __init__(self, context: AgentContext, call_next: Callable[[], Awaitable[None]], guard: Guard) -> None:
        self._given = [(context, call_next)]
        self._context = ref(context)
        self._shown: ref[Updates] | None = None
        self.guard: Guard = guard

    async def begin(self) -> bool:
        """Go on to the agent; return whether there is a stream."""
        context, call_next = self._given.pop()
        await call_next()
        if not isinstance(context.result, ResponseStream):
            return False
        self.stream = context.result
        return True

    def show(
        self, updates: AsyncGenerator[AgentResponseUpdate | None, None], final: Callable[[], Awaitable[AgentResponse]]
    ) -> None:
        """Put what is to be read in the place of the stream."""

        async def finalized(_: object) -> AgentResponse:
            return await final()

        read = _Read(cast("AsyncIterable[AgentResponseUpdate]", updates), finalizer=finalized)
        read.run = self.stream
        context = self._context()
        if context is not None:
            context.result = read
            self._shown = ref(read)

    def hide(self) -> None:
        """Take it back, when all middleware has seen it.

        The framework's handlers are a cycle that holds the context. If that held what is read too, a stream that is
        dropped would keep its lane until the next full collection.
        """
        context = self._context()
        if context is not None and self._shown is not None and context.result is self._shown():
            context.result = self.stream


async def updates_of(key: str, run: StreamedRun, *, turn: Turn) -> AsyncGenerator[AgentResponseUpdate | None, None]:
    """Yield None when the run has begun, and then its updates; all of it is the turn."""
    async with run.guard(turn):
        if not await run.begin():
            return
        try:
            yield None
            run.hide()  # it is asked for
            async for update in run.stream:
                yield update
            run.response = await run.stream.get_final_response()
        finally:
            close = getattr(run.stream, "close", None)  # since 1.20
            if close is not None:
                await close()
