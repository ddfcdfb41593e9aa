"""The context that tells which turn runs here, and the call chain it stands for."""

# pyright: reportPrivateUsage=false

import asyncio
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnlane.turns.turn import Turn

__all__ = ("caller_of", "current_turn", "nearest_running", "reset_current")

_current: ContextVar["Turn | None"] = ContextVar("turnlane_current_turn", default=None)


def reset_current(context: Token["Turn | None"]) -> None:
    """Undo a `_current.set`; in another context, as where a coroutine is collected after its loop, there is nothing."""
    try:  # noqa: SIM105  suppress() would hide which line may raise
        _current.reset(context)
    except ValueError:
        pass


def nearest_running(turn: "Turn | None") -> "Turn | None":
    """Return the first of a turn and its ancestors that still runs."""
    while turn is not None and not turn.running:
        turn = turn._parent
    return turn


def caller_of(turn: "Turn | None", origin: object, task: "asyncio.Task[object] | None") -> "Turn | None":
    """Return the turn a request was really made from: `turn` is the one its context has, `origin` its client.

    Servers start the task of a later request in the context of an earlier one of the same connection, which may
    still run. Such a request is no part of that turn. It is known by its client, or, since a proxy may send several
    clients over one connection, by its task, which the server made as it made that of the earlier request. A request
    made in the turn's own task is part of it, whoever its client.

    Not told apart: a request made in-process by a child task of the turn that runs the same coroutine function as the
    server's tasks do; it is taken for a stranger and waits.
    """
    known = turn
    while known is not None:
        if (
            known._origin is not None
            and known._task is not task
            and (known._origin == origin or _same_function(known._task, task))
        ):
            return None
        known = known._parent
    return turn


def _same_function(one: "asyncio.Task[object] | None", other: "asyncio.Task[object] | None") -> bool:
    codes = [getattr(None if task is None else task.get_coro(), "cr_code", None) for task in (one, other)]
    return codes[0] is not None and codes[0] is codes[1]


def current_turn() -> "Turn | None":
    """Return the turn this code runs in: the innermost one of the call chain that has not ended, or None.

    The call chain is what inherited the turn's context: the turn's own task and the tasks it started,
    for as long as the turn lives.
    """
    return nearest_running(_current.get())
