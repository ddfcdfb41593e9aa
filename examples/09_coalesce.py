"""Coalesce: what is typed while the agent answers becomes one message. Run it to see three messages get one answer.

Behind `LaneMiddleware` the same is `Coalesce(merge=turnlane.messages.openai_chat)`.
"""

import asyncio

from turnlane import Coalesce, Runtime
from turnlane.errors import TurnCoalesced
from turnlane.messages import joined

runtime = Runtime()


async def ask_model(text: str) -> str:
    await asyncio.sleep(1.0)  # stands for the model's time
    return f"you said {text!r}"


@runtime.agent_turn(key="session_key", policy=Coalesce(window=0.1, merge=joined("text", " ")))
async def answer(session_key: str, text: str) -> str:
    return await ask_model(text)


async def say(text: str, *, after: float) -> None:
    await asyncio.sleep(after)
    try:
        print(f"{text}: {await answer('ada', text)}")
    except TurnCoalesced:
        print(f"{text}: answered with a later one")


async def main() -> None:
    async with runtime:
        messages = ("hi", "where is", "my parcel", "please?")
        await asyncio.gather(*(say(text, after=0.05 * number) for number, text in enumerate(messages)))


if __name__ == "__main__":
    asyncio.run(main())
