"""Interrupt: the newest message counts. Run it to see the old answer cut off, cleaned up, and then the new one."""

import asyncio
from collections.abc import AsyncIterator

from turnlane import Interrupt, Runtime
from turnlane.errors import TurnInterrupted

runtime = Runtime()


async def model(text: str) -> AsyncIterator[str]:
    for word in f"let me tell you about {text} at length".split():
        await asyncio.sleep(0.05)
        yield word


@runtime.agent_turn(key="session_key", policy=Interrupt(grace=0))
async def answer(session_key: str, text: str) -> AsyncIterator[str]:
    try:
        async for word in model(text):
            yield word
    finally:
        await asyncio.sleep(0.05)  # whatever has to be put away; the next turn waits for it
        print(f"  put away: {text}")


async def say(text: str, *, after: float) -> None:
    await asyncio.sleep(after)
    words: list[str] = []
    try:
        async for word in answer("ada", text):
            words.append(word)  # noqa: PERF401  what came before the end is kept
        print(f"{text}: {' '.join(words)}")
    except TurnInterrupted:
        print(f"{text}: cut off after {len(words)} words")


async def main() -> None:
    async with runtime:
        await asyncio.gather(say("whales", after=0), say("no, dolphins", after=0.12))


if __name__ == "__main__":
    asyncio.run(main())
