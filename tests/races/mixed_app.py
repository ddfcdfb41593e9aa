"""The app behind a mixed load: it writes what it is asked and what it answers to the transcript of its turn."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.types import Message, Receive, Send

from races.far_ends import Client
from races.mixed_book import PEER, Book
from races.mixed_load import Ask, Load
from races.traffic import Call
from turnlane import Transcripts, Turn
from turnlane.messages import HttpMessage
from turnlane.turns.talk import Steered

__all__ = ("Answering", "OwnError", "Sender", "words_in")

CLEANUP = 0.1  # seconds


class OwnError(Exception):
    """What the app itself raises."""


class Sender(Client):
    """The far end of one request, and what it asks.

    Mutable, besides: `read_whole`, whether the middleware has read the body to its end; `asked`, whether it has asked
    for the policy.
    """

    def __init__(self, number: int, load: Load) -> None:
        self.ask: Ask = load.asks[number]
        super().__init__(number, Call(self.ask.key))
        self.lane = load.lane(number)
        self.word = load.word(number)
        self.read_whole = self.asked = False
        message = {"role": "user", "content": self.word}
        document = {"session": self.ask.key, "stream": self.ask.stream, "messages": [message]}
        self.body = json.dumps(document).encode()


def words_in(body: bytes) -> list[str]:
    """Return what the messages in the body of a request say."""
    return [message["content"] for message in json.loads(body)["messages"]]


class Answering:
    """One call of the app, for one turn. `still_there` is called wherever it may look whether it is alone.

    Mutable: `_offered`, how many messages it has taken from `turn.steering`; `_steering`, held by who is about to be
    done with one.
    """

    def __init__(
        self,
        load: Load,
        book: Book,
        sender: Sender,
        turn: Turn,
        words: list[str],
        still_there: Callable[[Sender], None],
    ) -> None:
        self._load = load
        self._book = book
        self._sender = sender
        self._ask = sender.ask
        self._turn = turn
        self._words = words
        self._still_there = partial(still_there, sender)
        self._offered = 0
        self._steering = asyncio.Lock()

    async def run(self, transcripts: Transcripts, receive: Receive, send: Send, end: Callable[[Sender], None]) -> None:
        """Answer; `end` is called before the last message where the lane goes with it."""
        if not self._ask.listens:
            await self._answer(transcripts, send, end)
            return
        tasks = [asyncio.ensure_future(self._answer(transcripts, send, end)), asyncio.ensure_future(_gone(receive))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end_all(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _answer(self, transcripts: Transcripts, send: Send, end: Callable[[Sender], None]) -> None:
        if self._ask.fails == "early":
            raise OwnError
        async with self._turn.open_transcript() as transcript:
            self._book.opened(self._turn, transcript.path)
            for word in self._words:
                await self._store(word, transcript.append)
            if self._ask.stream:
                await send(_start(b"text/event-stream"))
                await send(_part(_event({"turn": self._turn.id, "words": self._words}), more=True))
            await self._pass()
            async with self._listening():
                await self._reply(transcripts)
            await self._pass()
        if self._ask.fails == "late":
            raise OwnError
        self._book.completed.add(self._turn.id)
        if not self._ask.stream:
            await send(_start(b"application/json"))
        if self._load.release_on == "response_end":
            end(self._sender)
        document = {"turn": self._turn.id, "words": self._words, "done": self._turn.id}
        await send(_part(_event(document) if self._ask.stream else json.dumps(document).encode(), more=False))
        await asyncio.sleep(self._ask.after)

    async def _reply(self, transcripts: Transcripts) -> None:
        """Call the model, and store what it says; write a note where that is broken off."""
        words = f"answer of {self._turn.id}"
        try:
            if self._ask.released:
                await self._store(words, partial(self._released, transcripts))
            else:
                await self._model()
                await self._store(words, self._turn.transcript.append)
        except asyncio.CancelledError:
            if self._ask.on_cancel == "clean up":
                await asyncio.sleep(CLEANUP)
                await self._store(f"note of {self._turn.id}", self._turn.transcript.append)
            raise

    async def _released(self, transcripts: Transcripts, entry: dict[str, Any]) -> None:
        """Stage an entry; meanwhile somebody else writes, as another process does."""
        async with self._turn.transcript.released() as prompt:
            prompt.stage(entry)
            self._book.staged.append(entry["content"])
            session = self._turn.session
            append = partial(Transcripts(transcripts.store).append, "" if session is None else session.id)
            await self._book.store(self._turn.key, PEER, f"peer of {self._turn.id}", append)
            await self._model()

    async def _model(self) -> None:
        try:
            await asyncio.sleep(self._ask.model)
        except asyncio.CancelledError:
            if self._ask.on_cancel != "swallow":
                raise
            await asyncio.sleep(CLEANUP)

    async def _store(self, words: str, write: Callable[[Any], Any]) -> None:
        await self._book.store(self._turn.key, self._turn.id, words, write)

    # -- messages that are offered to the turn

    async def _pass(self) -> None:
        for _ in range(self._ask.hold):
            await asyncio.sleep(0)
            self._still_there()
            while self._ask.steers in ("take", "some") and (steered := self._turn.steering.take()) is not None:
                await self._steer(steered)

    @asynccontextmanager
    async def _listening(self) -> AsyncGenerator[None, None]:
        if self._ask.steers != "listen":
            yield
            return
        listener = asyncio.ensure_future(self._listen())
        try:
            yield
            async with self._steering:
                listener.cancel()
        finally:
            await _end_all([listener])
        if not listener.cancelled():
            listener.result()

    async def _listen(self) -> None:
        async for steered in self._turn.steering:
            async with self._steering:
                await self._steer(steered)

    async def _steer(self, steered: Steered) -> None:
        self._offered += 1
        if self._ask.steers == "take" or self._offered % 2 == 0 or not steered.done():
            return
        message = steered.message
        for word in words_in(message.body) if isinstance(message, HttpMessage) else ():
            self._book.steer(self._turn, word)
            await self._store(word, self._turn.transcript.append)


async def _end_all(tasks: "Sequence[asyncio.Future[None]]") -> None:
    for task in tasks:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at: where this is cancelled nobody else does
    if cancelled is not None:
        raise cancelled


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _start(kind: bytes) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}


def _part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
