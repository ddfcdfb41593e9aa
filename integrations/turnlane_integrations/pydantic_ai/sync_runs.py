"""The runs of a `LaneAgent` that block the thread which calls them."""

import inspect
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar, overload
from weakref import WeakValueDictionary

from pydantic_ai.agent import AbstractAgent, AgentRunResult, WrapperAgent
from pydantic_ai.output import OutputDataT, OutputSpec
from pydantic_ai.result import StreamedRunResultSync
from pydantic_ai.tools import AgentDepsT

from turnlane import Runtime
from turnlane.errors import NotConfigured
from turnlane_integrations._blocking import Blocking, loop_here

__all__ = ("SyncRuns", "is_alone")

T = TypeVar("T")

_is_alone: ContextVar[bool] = ContextVar("turnlane_pydantic_ai_is_alone", default=False)


class SyncRuns(WrapperAgent[AgentDepsT, OutputDataT]):
    """Wraps an agent whose `run` and `run_stream` are turns: so are these.

    Args:
        wrapped: the agent.
        runtime: whose lanes.

    Mutable: `_open`, by thread and conversation the streams that this thread alone can end.
    """

    def __init__(self, wrapped: AbstractAgent[AgentDepsT, OutputDataT], runtime: Runtime) -> None:
        super().__init__(wrapped)
        self._runtime = runtime
        self._blocking = Blocking(runtime)
        self._open: WeakValueDictionary[object, StreamedRunResultSync[Any, Any]] = WeakValueDictionary()

    @overload
    def run_sync(self, *args: Any, output_type: None = None, **options: Any) -> AgentRunResult[OutputDataT]: ...

    @overload
    def run_sync(self, *args: Any, output_type: OutputSpec[T], **options: Any) -> AgentRunResult[T]: ...

    def run_sync(self, *args: Any, **options: Any) -> AgentRunResult[Any]:
        """Do what `Agent.run_sync` does; in threads, or where the lanes are in use, in the event loop of the lanes.

        Raises:
            NotConfigured: called in the thread of an event loop, which it would stop.
            ValueError, SessionKeyRequired, ConversationConflict, LaneError, TranscriptError: as `iter`.
        """
        self._leave(options)
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and loop_here() is None and not self._is_elsewhere():
            with _alone():
                return super().run_sync(*args, **options)
        if options.pop("infer_name", True) and self.name is None:
            self._infer_name(inspect.currentframe())
        run = partial(self._one, *args, **options, infer_name=False)
        (result,) = self._blocking.iterate(run, instead="run")
        return result

    @overload
    def run_stream_sync(
        self, *args: Any, output_type: None = None, **options: Any
    ) -> StreamedRunResultSync[AgentDepsT, OutputDataT]: ...

    @overload
    def run_stream_sync(
        self, *args: Any, output_type: OutputSpec[T], **options: Any
    ) -> StreamedRunResultSync[AgentDepsT, T]: ...

    def run_stream_sync(self, *args: Any, **options: Any) -> StreamedRunResultSync[AgentDepsT, Any]:
        """Do what `Agent.run_stream_sync` does, in an event loop of its own thread. Use it with `with`.

        Without, the stream is left, and saved if it was read to its end, where this thread has the next run of its
        conversation, or nothing names it any more. One that is inside of the block of another with the same
        conversation ends that.

        Raises:
            NotConfigured: the lanes are used in another one, as in a server.
            ValueError, SessionKeyRequired, ConversationConflict, LaneError, TranscriptError: as `iter`.
        """
        if self._is_elsewhere():
            raise NotConfigured(
                "run_stream_sync is not for programs whose lanes are in an event loop: await run_stream"
            )
        self._leave(options)
        with _alone():
            streamed = super().run_stream_sync(*args, **options)
        self._open[threading.get_ident(), options["conversation_id"]] = streamed
        return streamed

    def close(self) -> None:
        """End the thread that `run_sync` has made, if it has."""
        self._blocking.close()

    async def _one(self, *args: Any, **options: Any) -> AsyncGenerator[AgentRunResult[Any], None]:
        yield await self.run(*args, **options)

    def _leave(self, options: dict[str, Any]) -> None:
        """Leave a stream of this thread whose turn a run would wait for, while nothing drives it."""
        streamed = self._open.pop((threading.get_ident(), options.get("conversation_id")), None)
        if streamed is not None:
            streamed.__exit__(None, None, None)  # harmless where it was left

    def _is_elsewhere(self) -> bool:
        """Tell whether the lanes are used in an event loop that runs, which is not the one of a call that waits."""
        try:
            return self._runtime.lanes.gate.loop.is_running()
        except NotConfigured:  # lanes that were never used
            return False


def is_alone() -> bool:
    """Tell whether this is a run whose event loop ends with it: nothing of its turn may be left for later."""
    return _is_alone.get()


@contextmanager
def _alone() -> Generator[None, None, None]:
    """Have the runs that begin inside let others know of their end: their event loop does not run behind them."""
    before = _is_alone.set(True)
    try:
        yield
    finally:
        _is_alone.reset(before)
