"""Ways in which a process with a turn forks a child, and in which that child ends."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Awaitable, Callable

from turnlane import Enqueue, Lanes, current_turn
from turnlane.engines import Alive, Ask
from turnlane.errors import TurnlaneError
from turnlane.lanes.shared import SharedGate

__all__ = ("FORKS", "OUTLIVES", "REFUSED")

REFUSED = 7
"""The exit status of a child that could not use what it has inherited."""

OUTLIVES = 60.0  # seconds a child may be left


def _forked() -> int:
    """Fork; in the child, say nothing more to whoever listens to the parent."""
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads: that is what is tried
        child = os.fork()
    if not child:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
    return child


async def _ended(child: int) -> int:
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    return os.waitstatus_to_exitcode(status)


async def exits(_: Lanes, key: str) -> int:
    """It ends at once."""
    if not (child := _forked()):
        os._exit(0)
    return await _ended(child)


async def collects(_: Lanes, key: str) -> int:
    """It drops what it can, and ends."""
    if not (child := _forked()):
        gc.collect()
        os._exit(0)
    return await _ended(child)


async def works(_: Lanes, key: str) -> int:
    """It is a worker of `multiprocessing`, which calls a function and ends as those do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = multiprocessing.get_context("fork").Process(target=gc.collect)
        process.start()
    await asyncio.to_thread(process.join)
    return int(process.exitcode or 0)


async def asks(lanes: Lanes, key: str) -> int:
    """It tries every step of the engine it has inherited; none may be done. In the end it lets it go."""
    if not (child := _forked()):
        status = 1
        with contextlib.suppress(BaseException):
            status = asyncio.new_event_loop().run_until_complete(_refusals(lanes, key))
        os._exit(status)
    return await _ended(child)


async def _refusals(lanes: Lanes, key: str) -> int:
    assert isinstance(lanes.gate, SharedGate)
    engine, turn = lanes.gate.engine, current_turn()
    assert turn is not None
    for step in (
        engine.acquire(key, Ask(ticket=turn.id)),
        engine.leave(key, ""),
        engine.leave(key, turn.id),
        engine.pause(key, True),
        engine.interrupt(key, grace=1.0),
        engine.renew([Alive(key, turn.id, turn.token)]),
        engine.look(key),
    ):
        if not await _none_of(step):
            return 1
    await engine.aclose()
    return REFUSED


async def _none_of(step: Awaitable[object]) -> bool:
    try:
        await step
    except TurnlaneError as error:
        return "forked" in str(error)
    return False


async def takes_turns(lanes: Lanes, key: str) -> int:
    """It asks for the lane of its parent, by the lanes it has inherited, in a loop of its own, and closes them."""
    if not (child := _forked()):
        status = 1
        with contextlib.suppress(BaseException):
            status = asyncio.new_event_loop().run_until_complete(_turn_refused(lanes, key))
        os._exit(status)
    return await _ended(child)


async def _turn_refused(lanes: Lanes, key: str) -> int:
    try:
        async with lanes.turn(key, policy=Enqueue(wait_timeout=0.2)):
            return 1
    except TurnlaneError:
        with contextlib.suppress(TurnlaneError):
            await lanes.aclose()
        return REFUSED


async def unwinds(_: Lanes, key: str) -> int:
    """It leaves by `sys.exit`, through the turn of its parent and the loop it runs in."""
    if not (child := _forked()):
        sys.exit(0)
    # The end of its copy of the loop takes what wakes this one up from another thread.
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)  # noqa: ASYNC222  it does not wait
        if ended:
            return os.waitstatus_to_exitcode(status)
        await asyncio.sleep(0.02)


async def outlives(_: Lanes, key: str) -> int:
    """It goes on, also when its parent is gone; return its number."""
    if not (child := _forked()):
        time.sleep(OUTLIVES)  # noqa: ASYNC251  there is no loop in the child
        os._exit(0)
    return child


FORKS: dict[str, Callable[[Lanes, str], Awaitable[int]]] = {
    way.__name__: way for way in (exits, collects, works, asks, takes_turns, unwinds, outlives)
}
"""By name; each returns the exit status of the child."""
