"""One run of agno: what it is called with, and its end."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from inspect import isawaitable
from typing import Any, Literal, Protocol, TypeVar

from turnlane.errors import SessionKeyInvalid, SessionKeyRequired
from turnlane.settled import settled
from turnlane_integrations.agno.guards import guarded

__all__ = ("Component", "options_of", "streamed", "whole")

R_co = TypeVar("R_co", covariant=True)

STORING = 10.0  # seconds that storing a run which was cancelled may take of its lane
STORES = "_persist_cancelled_"  # what the functions are named that do it, in a task of their own


class Component(Protocol[R_co]):
    """What runs: an `Agent`, a `Team`, a `Workflow`, or what has their methods."""

    def run(self, input: Any, *, session_id: str | None = None, stream: Literal[False] = False) -> R_co:
        """Run, and return the result."""
        ...

    def arun(
        self, input: Any, *, session_id: str | None = None, stream: Literal[False] = False
    ) -> Coroutine[Any, Any, R_co]:
        """Run, and return the result."""
        ...


def options_of(component: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run, with its session id.

    Args:
        component: what is run.
        options: as the caller gave them.

    Raises:
        SessionKeyRequired: there is no session id: not here, not in the run to continue, not in the component.
        SessionKeyInvalid: it is not text.
        ValueError: the run is to go on in the background.
    """
    if options.get("background"):
        raise ValueError("background=True: such a run goes on after its call, and so after its turn")
    continued = options.get("run_response")
    named = (options.get("session_id"), getattr(continued, "session_id", None), getattr(component, "session_id", None))
    session_id = next((each for each in named if each), None)
    if session_id is None:
        raise SessionKeyRequired("session_id=")
    if not isinstance(session_id, str):
        raise SessionKeyInvalid("session_id=", reason=f"it is {session_id!r}, not text")
    return {**options, "session_id": session_id}


async def whole(call: Callable[..., Any], *, session_id: str, **options: Any) -> Any:
    """Run, and return the result."""
    async with guarded(session_id):
        try:
            return await call(session_id=session_id, stream=False, **options)
        except BaseException:
            await settled(_stored())
            raise


async def streamed(call: Callable[..., Any], *, session_id: str, **options: Any) -> AsyncGenerator[Any, None]:
    """Run, and yield the events."""
    async with guarded(session_id):
        try:
            found = call(session_id=session_id, stream=True, **options)
            async with aclosing(await found if isawaitable(found) else found) as events:
                async for event in events:
                    yield event
        except BaseException:
            await settled(_stored())
            raise


async def _stored() -> None:
    """Wait until agno has stored the runs that were cancelled, which it does in tasks of their own."""
    storing = {task for task in asyncio.all_tasks() if STORES in getattr(task.get_coro(), "__qualname__", "")}
    if storing:
        await asyncio.wait(storing, timeout=STORING)
