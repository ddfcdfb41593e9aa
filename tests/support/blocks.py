"""Threads that stay in turns by `Blocking`, and what their tests share."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from functools import partial

from turnlane import Runtime
from turnlane.hooks import TurnQueued, TurnStarted
from turnlane_integrations._blocking import Blocking, Stay

__all__ = ("LONGEST", "Block", "Steps", "counting", "is_free", "loop_of", "opened", "set_by", "turn_of", "use")

LONGEST = 20.0

Steps = list[str]


def turn_of(blocking: Blocking, runtime: Runtime, key: str = "k", **options: object) -> AbstractContextManager[Stay]:
    return blocking.inside(partial(runtime.turn, key, join=True, **options), instead="it")  # type: ignore[arg-type]


class Block:
    """A block that tells when it was entered, and ends when it may."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self, inside: AbstractContextManager[Stay]) -> Stay:
        with inside as stay:
            self.entered.set()
            assert self.go.wait(LONGEST)
        return stay


def set_by(runtime: Runtime, event: type[TurnQueued] | type[TurnStarted]) -> threading.Event:
    """Return what is set at the next event of a kind."""
    found = threading.Event()
    runtime.hooks.on(event, lambda _: found.set())
    return found


def is_free(runtime: Runtime) -> bool:
    statistics = runtime.lanes.statistics()
    return (statistics.running, statistics.waiting) == (0, 0)


def opened() -> Block:
    block = Block()
    block.go.set()
    return block


def loop_of(blocking: Blocking) -> asyncio.AbstractEventLoop:
    async def find() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    return blocking.run(find)


async def use(runtime: Runtime) -> asyncio.AbstractEventLoop:
    async with runtime.turn("k"):
        return asyncio.get_running_loop()


async def counting(steps: Steps, *, hold: "asyncio.Event | None" = None) -> AsyncGenerator[int, None]:
    try:
        for number in range(3):
            yield number
        if hold is not None:
            hold.set()
            await asyncio.Event().wait()
        yield 3
    except BaseException as error:
        steps.append(type(error).__name__)
        raise
    finally:
        steps.append("ended")
