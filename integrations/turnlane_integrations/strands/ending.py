"""How an agent is asked to stop with its turn, and what it does at its end."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from strands import Agent

from turnlane import Turn

__all__ = ("asked_to_stop_with", "shut_down")


@asynccontextmanager
async def shut_down(agent: Agent) -> AsyncGenerator[None, None]:
    """Shut an agent down after the block; older ones of strands have nothing to shut down."""
    try:
        yield
    finally:
        if hasattr(agent, "shutdown_async"):
            await agent.shutdown_async()


@asynccontextmanager
async def asked_to_stop_with(turn: Turn, agent: Agent) -> AsyncGenerator[None, None]:
    """Pass on to an agent, inside the block, that its turn was asked to stop."""

    async def pass_on() -> None:
        await turn.wait_interrupted()
        agent.cancel()

    task = asyncio.create_task(pass_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
