"""What answers a turn: a scripted model that shows which history it was given, or a real upstream."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Literal, Protocol, TypedDict

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionAssistantMessageParam, ChatCompletionUserMessageParam

__all__ = ("Message", "Model", "ScriptedModel", "UpstreamModel", "model_from_environment")


class Message(TypedDict):
    """One line of a transcript."""

    role: Literal["user", "assistant"]
    content: str


class Model(Protocol):
    """Answers a conversation piece by piece."""

    @property
    def name(self) -> str:
        """The name the responses carry."""
        ...

    def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str, None]:
        """Yield the reply to the last of `messages` in pieces; joined they are the whole reply."""
        ...

    async def aclose(self) -> None:
        """Let go of what the model opened."""
        ...


class ScriptedModel:
    """Says how many turns it has seen and what it remembers: a history that was lost is a hole in the reply.

    Args:
        delay: seconds between two words.
    """

    name = "scripted"

    def __init__(self, *, delay: float = 0.02) -> None:
        if not delay >= 0:
            raise ValueError(f"delay must be a number of seconds, at least 0, not {delay!r}")
        self.delay = delay

    def __repr__(self) -> str:
        return f"<ScriptedModel delay={self.delay}>"

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str, None]:
        """Yield the reply word by word."""
        words = scripted_reply(messages).split(" ")
        for number, word in enumerate(words):
            await asyncio.sleep(self.delay)
            yield word if number == 0 else f" {word}"

    async def aclose(self) -> None:
        """Nothing is open."""


def scripted_reply(messages: Sequence[Message]) -> str:
    """Return what the scripted model says to these messages, the last of which is the one to answer.

    Raises:
        ValueError: there is no user message.
    """
    texts = [message["content"] for message in messages if message["role"] == "user"]
    if not texts:
        raise ValueError("a model needs at least one user message")
    *earlier, newest = texts
    quoted = ", ".join(f'"{text}"' for text in earlier)
    noun = "message" if len(earlier) == 1 else "messages"
    memory = f"I remember {len(earlier)} earlier {noun}: {quoted}." if earlier else "I remember nothing before it."
    return f'Turn {len(texts)}. You said "{newest}". {memory}'


class UpstreamModel:
    """Asks an OpenAI-compatible server for each reply.

    Args:
        client: the upstream; closed with this model.
        name: the model the upstream is asked for.
    """

    def __init__(self, client: AsyncOpenAI, *, name: str) -> None:
        self.name = name
        self._client = client

    def __repr__(self) -> str:
        return f"<UpstreamModel {self.name} at {self._client.base_url}>"

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str, None]:
        """Yield the reply as the upstream streams it."""
        chunks = await self._client.chat.completions.create(
            model=self.name, messages=[_upstream_message(message) for message in messages], stream=True
        )
        async with chunks:
            async for chunk in chunks:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

    async def aclose(self) -> None:
        """Close the connections to the upstream."""
        await self._client.close()


def _upstream_message(message: Message) -> ChatCompletionUserMessageParam | ChatCompletionAssistantMessageParam:
    if message["role"] == "user":
        return {"role": "user", "content": message["content"]}
    return {"role": "assistant", "content": message["content"]}


def model_from_environment(environment: Mapping[str, str] | None = None, *, delay: float = 0.02) -> Model:
    """Return the upstream that `OPENAI_BASE_URL` names, else the scripted model.

    Args:
        environment: read for `OPENAI_BASE_URL`, `OPENAI_MODEL` and `OPENAI_API_KEY`; default the process's own.
        delay: seconds between two words of the scripted model.
    """
    environment = os.environ if environment is None else environment
    base_url = environment.get("OPENAI_BASE_URL", "").strip()
    if not base_url:
        return ScriptedModel(delay=delay)
    # Local upstreams want no key, the client wants one.
    api_key = environment.get("OPENAI_API_KEY") or "unused"
    client = AsyncOpenAI(base_url=base_url, api_key=api_key)
    return UpstreamModel(client, name=environment.get("OPENAI_MODEL") or "gpt-4o-mini")
