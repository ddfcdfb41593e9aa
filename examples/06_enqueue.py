"""Enqueue, the default: messages wait their turn, so many at most. Run it to see the order, and who is refused."""

import asyncio

from turnlane import Enqueue, Runtime, Turn
from turnlane.errors import LaneFull

runtime = Runtime()


async def ask_model(text: str) -> str:
    await asyncio.sleep(0.1)  # stands for the model's time
    return text.upper()


@runtime.agent_turn(key="session_key", policy=Enqueue(max_waiting=2, hint_after=2))
async def answer(session_key: str, text: str, *, turn: Turn) -> str:
    note = " (sorry for the wait)" if turn.hinted else ""
    return f"{await ask_model(text)}{note}"


async def say(text: str) -> None:
    try:
        print(f"{text}: {await answer('ada', text)}")
    except LaneFull as error:
        print(f"{text}: refused, {error.waiting} wait already")


async def main() -> None:
    async with runtime:
        await asyncio.gather(*(say(text) for text in ("one", "two", "three", "four")))


if __name__ == "__main__":
    asyncio.run(main())
