"""A bot that asks for updates again and again, as bots for messengers do. Run it: what is typed meanwhile is one turn.

Plain functions; the messenger and the model are scripted, so that nothing is needed but turnlane.
"""

import asyncio
import logging
from dataclasses import dataclass

from turnlane import Coalesce, Runtime
from turnlane.errors import LaneError, TurnCoalesced
from turnlane.messages import joined

runtime = Runtime()  # Runtime(lanes="redis://...") for a bot that runs more than once


@dataclass(frozen=True)
class Update:
    number: int
    chat: str
    text: str


class Messenger:
    """Stands for the API of a messenger: each poll gives what has come since the last one, or waits for it."""

    def __init__(self, *script: tuple[float, str, str]) -> None:
        self._script = script

    async def updates(self, *, offset: int) -> list[Update]:
        if offset == len(self._script):
            return []
        seconds, chat, text = self._script[offset]
        await asyncio.sleep(seconds)
        return [Update(offset + 1, chat, text)]

    async def send(self, chat: str, text: str) -> None:
        print(f"to {chat}: {text}")


async def ask_model(text: str) -> str:
    await asyncio.sleep(0.3)
    return f"you said {text!r}"


@runtime.agent_turn(key="chat", policy=Coalesce(window=0.2, merge=joined("text", " ")))
async def answer(chat: str, text: str, messenger: Messenger) -> None:
    try:
        await messenger.send(chat, await ask_model(text))
    except Exception:  # of the model, or of the messenger; whose words were made part of these is not told
        logging.getLogger("bot").exception("%s is not answered: %r", chat, text)


async def handle(update: Update, messenger: Messenger) -> None:
    """Answer one update; nothing that goes wrong with it may end the loop."""
    try:
        try:
            await answer(update.chat, update.text, messenger)
        except TurnCoalesced:
            print(f"{update.text!r} is answered together with what came after it")
        except LaneError as error:  # too many wait, or the bot is being stopped
            await messenger.send(update.chat, f"please try again later ({type(error).__name__})")
    except Exception:
        logging.getLogger("bot").exception("update %s is not answered", update.number)


async def main(messenger: Messenger) -> None:
    async with runtime, asyncio.TaskGroup() as turns:
        offset = 0
        while updates := await messenger.updates(offset=offset):  # a real bot: while True
            for update in updates:
                turns.create_task(handle(update, messenger))  # it takes its place in the order of these tasks
                offset = update.number


if __name__ == "__main__":
    hello = (0.0, "ada", "hello")
    quick = ((0.05, "ada", "where"), (0.05, "ada", "is"), (0.05, "ada", "my parcel?"))
    asyncio.run(main(Messenger(hello, *quick, (0.0, "bob", "good morning"))))
