"""The client side: a burst of overlapping messages, sent with the real `openai` client."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAIError

from turnlane.cli.demo.facts import Api
from turnlane.cli.demo.log import LABEL_HEADER, TurnLog
from turnlane.cli.demo.server import KEY_HEADER

__all__ = ("BURST", "Planned", "Received", "fire")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One message to send.

    `leaves`: its client hangs up once the message has arrived. `after`: it is sent when everything before
    it in its conversation has been answered; the others are sent as soon as the one before has arrived.
    """

    label: str
    key: str
    text: str
    api: Api
    stream: bool = False
    leaves: bool = False
    after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What the client of one message got: a reply, or an error, or neither because it hung up."""

    reply: str | None = None
    error: str | None = None


ADA, ALAN, GRACE = "agent:main:ada", "agent:main:alan", "agent:main:grace"

BURST = (
    Planned(label="ada-1", key=ADA, text="my name is Ada", api="chat", stream=True),
    Planned(label="ada-2", key=ADA, text="I live in London", api="chat"),
    Planned(label="ada-3", key=ADA, text="I write programs", api="responses", stream=True),
    Planned(label="ada-4", key=ADA, text="who am I?", api="responses", after=True),
    Planned(label="alan-1", key=ALAN, text="call me Alan", api="responses", stream=True),
    Planned(label="alan-2", key=ALAN, text="I run marathons", api="chat", stream=True),
    Planned(label="alan-3", key=ALAN, text="and who am I?", api="chat", stream=True, after=True),
    Planned(label="grace-1", key=GRACE, text="this is Grace", api="responses"),
    Planned(label="grace-2", key=GRACE, text="I found a moth", api="chat", stream=True),
    Planned(label="grace-3", key=GRACE, text="never mind this", api="chat", leaves=True),
    Planned(label="grace-4", key=GRACE, text="I keep a log book", api="responses", stream=True),
    Planned(label="grace-5", key=GRACE, text="what did I find?", api="chat", after=True),
)
"""Three conversations at the same time, two to four overlapping messages each, and a question afterwards."""


async def fire(
    url: str, plan: Sequence[Planned], *, log: TurnLog, model: str, timeout: float = 120.0
) -> Mapping[str, Received]:
    """Send a burst and return what each client got, by label.

    Messages of one conversation are sent in the order of the plan, each once the server has noted the
    arrival of the one before: their arrival order is known. Conversations run at the same time.

    Args:
        url: the server, without a path.
        plan: what to send; messages of one key stand together.
        log: the log of that server.
        model: the model name to ask for.
        timeout: seconds for one message.

    Raises:
        TimeoutError: a message did not reach the server.
    """
    # Loopback: a proxy of the environment must not stand between. A retry would be a second message.
    http = DefaultAsyncHttpxClient(trust_env=False)
    received: dict[str, Received] = {}
    async with AsyncOpenAI(
        base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=timeout, http_client=http
    ) as client:
        sender = _Sender(client, log=log, model=model, received=received)
        async with asyncio.TaskGroup() as conversations:
            for _, planned in groupby(plan, key=lambda message: message.key):
                conversations.create_task(sender.converse(list(planned)))
    return received


class _Sender:
    def __init__(self, client: AsyncOpenAI, *, log: TurnLog, model: str, received: dict[str, Received]) -> None:
        self._client = client
        self._log = log
        self._model = model
        self._received = received

    async def converse(self, plan: Sequence[Planned]) -> None:
        """Send the messages of one conversation."""
        open_requests: list[asyncio.Task[None]] = []
        try:
            for planned in plan:
                if planned.after:
                    await self._until_done(open_requests, plan[: plan.index(planned)])
                request = asyncio.create_task(self._deliver(planned))
                open_requests.append(request)
                await self._until_arrived(planned, request)
                if planned.leaves:
                    request.cancel()
                    # Its connection is closed when the task has ended.
                    await asyncio.wait([request])
                    open_requests.remove(request)
            await self._until_done(open_requests, plan)
        finally:
            for request in open_requests:
                request.cancel()
            await asyncio.gather(*open_requests, return_exceptions=True)

    async def _until_done(self, open_requests: "Sequence[asyncio.Task[None]]", sent: Sequence[Planned]) -> None:
        await asyncio.gather(*open_requests)
        # The last byte is out a moment before the server is done with a request.
        for planned in sent:
            if self._received[planned.label].error is None:
                await self._log.noted("returned", planned.label)

    async def _until_arrived(self, planned: Planned, request: "asyncio.Task[None]") -> None:
        arrival = asyncio.create_task(self._log.noted("arrived", planned.label))
        try:
            # A request that fails before it arrives (nobody listens) must not be waited for.
            await asyncio.wait([arrival, request], return_when=asyncio.FIRST_COMPLETED)
            if arrival.done():
                arrival.result()
        finally:
            arrival.cancel()
            await asyncio.gather(arrival, return_exceptions=True)

    async def _deliver(self, planned: Planned) -> None:
        self._received[planned.label] = Received()
        try:
            reply = await (self._chat(planned) if planned.api == "chat" else self._responses(planned))
        except OpenAIError as error:
            self._received[planned.label] = Received(error=str(error))
        else:
            self._received[planned.label] = Received(reply=reply)

    async def _chat(self, planned: Planned) -> str:
        headers = {KEY_HEADER: planned.key, LABEL_HEADER: planned.label}
        completions = self._client.chat.completions
        if not planned.stream:
            answer = await completions.create(
                model=self._model, messages=[{"role": "user", "content": planned.text}], extra_headers=headers
            )
            return answer.choices[0].message.content or ""
        text = ""
        async with await completions.create(
            model=self._model, messages=[{"role": "user", "content": planned.text}], extra_headers=headers, stream=True
        ) as chunks:
            async for chunk in chunks:
                text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        return text

    async def _responses(self, planned: Planned) -> str:
        headers = {KEY_HEADER: planned.key, LABEL_HEADER: planned.label}
        if not planned.stream:
            answer = await self._client.responses.create(model=self._model, input=planned.text, extra_headers=headers)
            return answer.output_text
        text = ""
        async with await self._client.responses.create(
            model=self._model, input=planned.text, extra_headers=headers, stream=True
        ) as events:
            async for event in events:
                if event.type == "response.output_text.delta":
                    text += event.delta
        return text
