"""Steer: a message reaches the agent while it works. Run it to see one taken, and one that came too late."""

import asyncio

from turnlane import Runtime, Steer, Turn
from turnlane.errors import TurnSteered

runtime = Runtime()


async def search(place: str) -> None:
    await asyncio.sleep(0.4)  # stands for a tool the agent uses
    print(f"  searched in {place}")


@runtime.agent_turn(key="session_key", policy=Steer())
async def answer(session_key: str, text: str, *, turn: Turn) -> str:
    places = text.split(", ")
    for place in places:
        await search(place)
        while (steered := turn.steering.take()) is not None:  # between two steps: has the user said something?
            places.append(steered.message["text"])
            steered.done()  # from here on this turn answers it
    return f"found nothing in {', '.join(places)}"


async def say(text: str, *, after: float) -> None:
    await asyncio.sleep(after)
    try:
        print(f"{text}: {await answer('ada', text)}")
    except TurnSteered:
        print(f"{text}: taken into the answer that is being given")


async def main() -> None:
    async with runtime:
        await asyncio.gather(say("kitchen, garden", after=0), say("attic", after=0.1), say("cellar", after=2.0))


if __name__ == "__main__":
    asyncio.run(main())
