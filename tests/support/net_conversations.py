"""Many conversations at once with the real `openai` client, whose people are impatient, from a seed."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from openai import APIError, AsyncOpenAI

from support.net_clients import openai_client
from support.net_http import connected, request
from turnlane.cli.demo.log import LABEL_HEADER
from turnlane.cli.demo.server import KEY_HEADER

__all__ = ("Outcome", "Planned", "plan_of", "talk")

Manner = Literal["stays", "leaves waiting", "leaves streaming", "half a body"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One message: when it is sent after its conversation began, how, and when its client has had enough."""

    label: str
    key: str
    responses: bool
    stream: bool
    manner: Manner
    after: float
    patience: float
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the client of one message got: a whole reply, an error, or neither because it left."""

    reply: str | None = None
    error: str | None = None


def plan_of(conversations: int, messages: int, *, seed: int) -> tuple[tuple[Planned, ...], ...]:
    """Return the messages of each conversation. Half of them go over `/v1/responses`, whatever the seed."""
    chance = random.Random(seed)
    return tuple(
        tuple(_planned(chance, number, position) for position in range(messages)) for number in range(conversations)
    )


def _planned(chance: random.Random, number: int, position: int) -> Planned:
    manners: tuple[Manner, ...] = ("stays", "leaves waiting", "leaves streaming", "half a body")
    manner = chance.choices(manners, weights=(70, 12, 10, 8))[0]
    return Planned(
        label=f"c{number}m{position}",
        key=f"agent:main:{number}",
        responses=(number + position) % 2 == 1,
        stream=manner == "leaves streaming" or chance.random() < 0.5,
        manner=manner,
        after=chance.uniform(0, 0.03),
        patience=chance.uniform(0.005, 0.1),
        chunks=chance.randint(1, 6),
    )


class Impatience:
    """Starts the clock of a client once its request is out: who hangs up has been heard.

    Not earlier also because a client that is cancelled while it connects may forget to close its connection.

    Mutable: `clocks`, by label; a client that has one leaves so many seconds after it has sent.
    """

    def __init__(self) -> None:
        self.clocks: dict[str, tuple[asyncio.Timeout, float]] = {}

    async def __call__(self, request: Any) -> None:
        """Have the HTTP client tell of this request; a hook of either of its two packages."""
        label = request.headers.get(LABEL_HEADER, "")

        async def trace(event: str, _: object) -> None:
            if event == "http11.send_request_body.complete" and label in self.clocks:
                timeout, patience = self.clocks.pop(label)
                timeout.reschedule(asyncio.get_running_loop().time() + patience)

        request.extensions = {**request.extensions, "trace": trace}


async def talk(port: int, plan: Sequence[Sequence[Planned]], *, at_once: int) -> dict[str, Outcome]:
    """Have these conversations, so many at once, and return what each client got, by label."""
    outcomes: dict[str, Outcome] = {}
    impatience = Impatience()
    places = asyncio.Semaphore(at_once)
    async with openai_client(port, timeout=60, event_hooks={"request": [impatience]}) as client:

        async def converse(messages: Sequence[Planned]) -> None:
            async with places, asyncio.TaskGroup() as tasks:
                for planned in messages:
                    tasks.create_task(deliver(planned))

        async def deliver(planned: Planned) -> None:
            await asyncio.sleep(planned.after)
            outcomes[planned.label] = await _deliver(client, impatience.clocks, port, planned)

        async with asyncio.TaskGroup() as conversations:
            for messages in plan:
                conversations.create_task(converse(messages))
    return outcomes


async def _deliver(
    client: AsyncOpenAI, clocks: dict[str, tuple[asyncio.Timeout, float]], port: int, planned: Planned
) -> Outcome:
    try:
        if planned.manner == "half a body":
            await _half_a_body(port, planned)
            return Outcome()
        async with asyncio.timeout(None) as timeout:
            if planned.manner == "leaves waiting":
                clocks[planned.label] = timeout, planned.patience
            ask = _responses if planned.responses else _chat
            return Outcome(reply=await ask(client, planned))
    except TimeoutError:
        return Outcome()
    except APIError as error:
        return Outcome(error=repr(error))


async def _half_a_body(port: int, planned: Planned) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": planned.label}], "input": planned.label}).encode()
    path = "/v1/responses" if planned.responses else "/v1/chat/completions"
    headers = {KEY_HEADER: planned.key, LABEL_HEADER: planned.label, "content-type": "application/json"}
    async with connected(port) as connection:
        await connection.send(request(path, body[: len(body) // 2], length=len(body), **headers))
        await asyncio.sleep(planned.patience)
        connection.leave()


async def _chat(client: AsyncOpenAI, planned: Planned) -> str | None:
    headers = {KEY_HEADER: planned.key, LABEL_HEADER: planned.label}
    if not planned.stream:
        answer = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": planned.label}], extra_headers=headers
        )
        return answer.choices[0].message.content
    pieces: list[str] = []
    async with await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": planned.label}], extra_headers=headers, stream=True
    ) as chunks:
        async for chunk in chunks:
            pieces.append(chunk.choices[0].delta.content or "")
            if planned.manner == "leaves streaming" and len(pieces) == planned.chunks:
                return None
    return "".join(pieces)


async def _responses(client: AsyncOpenAI, planned: Planned) -> str | None:
    headers = {KEY_HEADER: planned.key, LABEL_HEADER: planned.label}
    if not planned.stream:
        answer = await client.responses.create(model="m", input=planned.label, extra_headers=headers)
        return answer.output_text
    pieces: list[str] = []
    seen = 0
    async with await client.responses.create(
        model="m", input=planned.label, extra_headers=headers, stream=True
    ) as events:
        async for event in events:
            seen += 1
            if event.type == "response.output_text.delta":
                pieces.append(event.delta)
            if planned.manner == "leaves streaming" and seen == planned.chunks:
                return None
    return "".join(pieces)
