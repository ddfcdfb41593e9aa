"""Reject: one message at a time, and nobody waits. Run it to see a busy conversation say so."""

import asyncio

from turnlane import Reject, Runtime
from turnlane.errors import LaneBusy

runtime = Runtime()


@runtime.agent_turn(key="session_key", policy=Reject())
async def deploy(session_key: str, version: str) -> str:
    await asyncio.sleep(0.1)  # stands for work that must not be asked for twice
    return f"deployed {version}"


async def ask(session_key: str, version: str) -> None:
    try:
        print(f"{session_key}: {await deploy(session_key, version)}")
    except LaneBusy as error:
        print(f"{session_key}: {version} not now, {error.ahead} ahead")


async def main() -> None:
    async with runtime:
        await asyncio.gather(ask("shop", "v1"), ask("shop", "v2"), ask("blog", "v7"))
        await ask("shop", "v3")


if __name__ == "__main__":
    asyncio.run(main())
