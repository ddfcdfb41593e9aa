"""`runtime.agent_turn`: every call of a function is one turn."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
import functools
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, TypeVar, overload

from turnlane.arguments import optional_seconds, seconds
from turnlane.errors import ConsumerIdle, TurnCoalesced
from turnlane.lanes.scope import TurnScope
from turnlane.policies import Policy, policy_from_setting
from turnlane.turns.calls import Call, TurnFunction
from turnlane.turns.feed import Feed
from turnlane.turns.joining import TurnSource, joined, live_turn
from turnlane.turns.talk import Shared
from turnlane.turns.turn import Turn

__all__ = ("AgentTurn",)

logger: logging.Logger = logging.getLogger("turnlane.turns")

R = TypeVar("R")


class AgentTurn:
    """The decorator that `runtime.agent_turn(key=...)` returns.

    A call takes its place in the lane of its key, runs when its turn comes, and lets the lane go when the function has
    ended. The function is given `turn` by keyword if it declares it; the visible signature has no `turn`, so that a
    FastAPI endpoint can be decorated. A call from inside a running turn of the same key and lanes joins that turn: it
    runs at once, and the turn keeps its lane until it has ended, also where whoever made the call does not wait for it.

    An async generator runs in a task of its own that feeds its consumer one item at a time. Closing it, cancelling who
    reads it, dropping it or not asking for the next item for `idle_consumer_timeout` seconds ends the turn and frees
    the lane, after the generator's own cleanup. A generator that joined a turn runs in its consumer's task.

    The message of a call is its arguments by name. With `Coalesce(merge=...)` the newest call runs with the arguments
    that `merge` returns; `share_result` gives what it returns to the others, of a coroutine function only.

    Not guaranteed: that what a function returns is done with when its lane goes. A streamed response, or one with
    background tasks, goes on after that and logs a warning: decorate the generator that streams instead, or put
    `LaneMiddleware` before the endpoint. Nor that values or exceptions sent into the generator (`asend`, `athrow`)
    reach the function; nor, for type checkers, the arguments of the decorated function, since Python can not express
    "without `turn`". An endpoint without `LaneMiddleware` answers refusals with
    `app.add_exception_handler(errors.TurnlaneError, turnlane.asgi.refuse)`.

    Raises, when decorating:
        TypeError: a function that is not async, or `@staticmethod` and `@classmethod` below instead of above.
        ValueError: the function has no argument of the name given as key.
    """

    def __init__(
        self,
        source: TurnSource,
        *,
        key: str | Callable[..., Any],
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
        session_id: str | Callable[..., Any] | None = None,
        visible: bool = True,
        idle_consumer_timeout: float = 60.0,
        principal: str | Callable[..., Any] | None = None,
    ) -> None:
        self._source = source
        self._principal = principal
        self._key = key
        self._session_id = session_id
        self._policy = None if policy is None else policy_from_setting(policy)
        source.require_possible(self._policy or source.lanes.policy)
        self._turn_timeout = optional_seconds("turn_timeout", turn_timeout, above_zero=True)
        self._visible = visible
        self._idle_consumer_timeout = seconds("idle_consumer_timeout", idle_consumer_timeout, above_zero=True)

    @overload
    def __call__(self, function: Callable[..., Coroutine[Any, Any, R]]) -> Callable[..., Coroutine[Any, Any, R]]: ...

    @overload
    def __call__(self, function: Callable[..., AsyncIterator[R]]) -> Callable[..., AsyncGenerator[R, None]]: ...

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function whose calls are turns."""
        plan = TurnFunction(function, key=self._key, session_id=self._session_id, principal=self._principal)
        wrapped = self._generator(plan) if plan.is_generator else self._coroutine(plan)
        functools.update_wrapper(wrapped, function)
        annotations = inspect.get_annotations(function)
        wrapped.__annotations__ = {name: value for name, value in annotations.items() if name != "turn"}
        vars(wrapped)["__signature__"] = plan.signature
        return wrapped

    def _coroutine(self, plan: TurnFunction) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def run(*args: Any, **kwargs: Any) -> Any:
            call = plan.bind(args, kwargs)
            key, session_id = await self._place(call)
            live = live_turn(self._source.lanes, key)
            if live is not None:
                async with self._joined(live, session_id, asyncio.current_task()), _transcript_of(live):
                    return await call.run_inside(live)
            places: list[TurnScope] = []  # more than one where its session goes to another lane meanwhile
            scope_of = await self._scope_of(plan, call, session_id, places)
            try:
                async with self._turn(scope_of(key), scope_of, session_id) as turn, _transcript_of(turn):
                    result = await call.run(turn)
                    turn.share(Shared(result))
            except TurnCoalesced as error:
                if error.turn == places[-1].turn_id and isinstance(error.result, Shared):
                    return error.result.value
                raise
            _warn_of_late_work(plan, result)
            return result

        return run

    def _generator(self, plan: TurnFunction) -> Callable[..., AsyncGenerator[Any, None]]:
        async def run(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            call = plan.bind(args, kwargs)
            key, session_id = await self._place(call)
            live = live_turn(self._source.lanes, key)
            if live is not None:
                items: AsyncGenerator[Any, None] = call.run_inside(live)
                async with self._joined(live, session_id, None), _transcript_of(live), aclosing(items):
                    async for item in items:
                        yield item
                return
            items = self._fed(plan, call, key, session_id)
            async with aclosing(items):
                async for item in items:
                    yield item

        return run

    async def _fed(self, plan: TurnFunction, call: Call, key: str, session_id: str | None) -> AsyncGenerator[Any, None]:
        scope_of = await self._scope_of(plan, call, session_id, [])
        scope = scope_of(key)
        running: list[Turn] = []

        async def produce(feed: Feed[Any]) -> None:
            async with self._turn(scope, scope_of, session_id) as turn, _transcript_of(turn):
                running[:] = [turn]
                items: AsyncGenerator[Any, None] = call.run(turn)
                async with aclosing(items):
                    async for item in items:
                        await feed.put(item)

        def idle() -> ConsumerIdle:
            turn = running[0]
            return ConsumerIdle(turn.key, turn=turn.id, idle_consumer_timeout=self._idle_consumer_timeout)

        feed = Feed[Any](produce, idle_timeout=self._idle_consumer_timeout, idle=idle)
        try:
            # The place is taken in this very call, not when the producer's task gets to run.
            scope.arrive(feed.task)
        except BaseException:
            await feed.aclose()
            raise
        feed.task.add_done_callback(lambda _: scope.abandon())
        try:
            while True:
                try:
                    item = await feed.next()
                except StopAsyncIteration:
                    return
                yield item
        finally:
            await feed.aclose()

    async def _place(self, call: Call) -> tuple[str, str | None]:
        session_id = await call.session_id()
        if session_id is None:
            return await call.key(), None
        return (await self._source.session_of(session_id)).key, session_id

    async def _scope_of(
        self, plan: TurnFunction, call: Call, session_id: str | None, places: list[TurnScope]
    ) -> Callable[[str], TurnScope]:
        """Return what makes the place of a call in a lane, and notes it in `places`."""
        principal = await call.principal()

        def scope_of(lane: str) -> TurnScope:
            scope = self._source.lanes.place(
                lane, policy=self._policy, turn_timeout=self._turn_timeout, message=call.message, principal=principal
            )
            places.append(scope.aim_at((plan, session_id), require=call.require))
            return scope

        return scope_of

    def _turn(
        self, scope: TurnScope, scope_of: Callable[[str], TurnScope], session_id: str | None
    ) -> AbstractAsyncContextManager[Turn]:
        return self._source.turn_at(scope, scope_of, session_id=session_id, visible=self._visible)

    def _joined(
        self, turn: Turn, session_id: str | None, task: "asyncio.Task[object] | None"
    ) -> AbstractAsyncContextManager[None]:
        return joined(self._source, turn, task, session_id=session_id, visible=self._visible)


def _transcript_of(turn: Turn) -> AbstractAsyncContextManager[object]:
    """Open the transcript of a turn for a call, where its runtime has transcripts; it closes before the lane goes."""
    return nullcontext() if turn._transcript is None else turn._transcript.open()


def _warn_of_late_work(plan: TurnFunction, result: object) -> None:
    if hasattr(result, "body_iterator") or getattr(result, "background", None) is not None:
        logger.warning(
            "work_after_turn function=%s: its response streams or has background tasks, and its lane is free by now; "
            "decorate the generator, or use LaneMiddleware",
            plan.name,
        )
