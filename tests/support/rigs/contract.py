"""What the tests of integrations are made of: an agent built with a framework, with lanes or as the framework is."""

import asyncio
import random
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Self

from turnlane import Runtime

__all__ = ("Line", "ModelFailed", "Place", "Rig", "ScriptedModel", "reply_to")


class ModelFailed(Exception):
    """What the scripted model raises when it is asked to fail."""


def reply_to(text: str, seen: int) -> str:
    """Return what the model answers to a message, having seen so many before it."""
    return f"re {text} after {seen}"


class ScriptedModel:
    """Answers from what it is shown, and no faster than it is told.

    With `together`, so many calls wait for each other. Mutable: all of it. `calls`: the messages of people that it was
    shown, for each call. A text with `fail` in it fails; one with `hold` waits, half answered, until `go[text]` is set;
    `entered[text]` is set when it is asked.
    """

    def __init__(self, *, together: int = 0, seed: int | None = None) -> None:
        self.calls: list[list[str]] = []
        self.entered: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.go: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._missing = together
        self._together = asyncio.Event()
        self._chance = None if seed is None else random.Random(seed)

    async def words(self, said: Sequence[str]) -> AsyncGenerator[str, None]:
        """Yield the answer to the last of the messages of people, in parts.

        Raises:
            ModelFailed: it was asked to.
        """
        text = said[-1]
        self.calls.append(list(said))
        self.entered[text].set()
        self._missing -= 1
        if self._missing > 0:  # all are shown what there is now, and answer after that
            await self._together.wait()
        self._together.set()
        await self._dawdle()
        parts = reply_to(text, len(said) - 1).split(" ")
        yield parts[0]
        if "hold" in text:
            await self.go[text].wait()
        if "fail" in text:
            raise ModelFailed(text)
        for part in parts[1:]:
            await self._dawdle()
            yield f" {part}"

    def expect_nobody(self) -> None:
        """Have who waits for others go on: a framework that notices has refused one of them before it asked."""
        self._missing = 0
        self._together.set()

    async def reply(self, said: Sequence[str]) -> str:
        """Return the whole answer."""
        return "".join([part async for part in self.words(said)])

    async def _dawdle(self) -> None:
        if self._chance is not None:
            for _ in range(1 + self._chance.randrange(4)):  # never at once, whatever else there is to wait for
                await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a stored conversation."""

    role: str  # user, assistant
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an agent keeps its conversations, and where its lanes are; None: as its framework is, without us."""

    directory: str
    lanes: str | None


class Rig(ABC):
    """An agent of one framework that keeps what is said in `place.directory`, in a way its users do, and answers.

    A subclass makes what it needs in `open`, and leaves with `stack` what is to be closed. With `runtime` it uses the
    integration as its README says; without, the framework alone.
    """

    streams: ClassVar[bool] = True
    """Whether `stream` is there."""
    errors: ClassVar[tuple[type[BaseException], ...]] = (ModelFailed,)
    """What callers get, in this framework, when the model fails."""
    damages: ClassVar[bool] = True
    """Whether two messages that overlap do damage in this framework when it is left alone."""
    conversations: ClassVar[int] = 50
    """How many conversations at once are tried; fewer where each turn starts a program. The long form tries fifty."""
    follows_callers: ClassVar[bool] = True
    """Whether a turn ends when its caller leaves it before a whole answer; a server does not always see that."""

    def __init__(self, place: Place, model: ScriptedModel) -> None:
        self.place = place
        self.model = model
        self.stack = AsyncExitStack()
        self.runtime: Runtime | None = None

    async def __aenter__(self) -> Self:
        if self.place.lanes is not None:
            self.runtime = await self.stack.enter_async_context(self.make_runtime(self.place.lanes))
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stack.aclose()

    def make_runtime(self, lanes: str) -> Runtime:
        """Return the runtime its users would make."""
        return Runtime(lanes=lanes)

    @abstractmethod
    async def open(self) -> None:
        """Make the agent."""

    @abstractmethod
    async def answer(self, conversation: str, text: str) -> str:
        """Return the agent's answer to a message."""

    def stream(self, conversation: str, text: str) -> AsyncGenerator[str, None]:
        """Yield the agent's answer in parts."""
        raise NotImplementedError(f"{type(self).__name__} does not stream")

    @abstractmethod
    async def history(self, conversation: str) -> list[Line]:
        """Return what is stored of a conversation: what people and the agent said."""
