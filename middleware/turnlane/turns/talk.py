"""What a turn has to answer: its messages, and those that are offered to it while it runs."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Self

__all__ = ("Shared", "Steered", "Steering", "Talk")


class Steered:
    """A message that another caller sent while this turn ran; see `Steer`.

    Attributes:
        message: what was sent.
        turn: the id of the turn it would have been, and will be unless `done` is called.
    """

    __slots__ = ("_finish", "_waits", "message", "turn")

    def __init__(self, message: Any, turn: str, *, waits: Callable[[], bool], finish: Callable[[], bool]) -> None:
        self.message: Any = message
        self.turn: str = turn
        self._waits = waits
        self._finish = finish

    def __repr__(self) -> str:
        return f"<Steered {self.turn} {'waits' if self._waits() else 'over'}>"

    @property
    def waits(self) -> bool:
        """Whether its sender still waits for somebody to be done with it."""
        return self._waits()

    def done(self) -> bool:
        """Say that this turn has answered the message; its sender is told so, and it will be no turn of its own.

        Returns:
            Whether that was so. False: its sender has left, was superseded, or this turn has ended; if the sender still
            waits, the message becomes a turn of its own.
        """
        return self._finish()


class Steering:
    """The messages offered to one running turn, each once, in the order of arrival.

    `async for steered in turn.steering:` waits for the next one and ends with the turn; `take()` does not wait, for a
    loop that looks between two calls of the model. A message whose sender has left before it was taken is not given.
    Iterate in a task beside the work: a turn that does it in its own code waits for its own end.

    Mutable: `_offers`, `_asking` (futures of who waits for one), `_closed` once the turn has ended.
    """

    __slots__ = ("_asking", "_closed", "_offers")

    def __init__(self) -> None:
        self._offers: deque[Steered] = deque()
        self._asking: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Steered:
        while True:
            steered = self.take()
            if steered is not None:
                return steered
            if self._closed:
                raise StopAsyncIteration
            asking = asyncio.get_running_loop().create_future()
            self._asking.append(asking)
            try:
                await asking
            finally:
                if asking in self._asking:
                    self._asking.remove(asking)
                elif self._offers:
                    self._wake(1)  # woken for one and cancelled: another who asks gets it

    def take(self) -> Steered | None:
        """Return the next message, or None if there is none now."""
        while self._offers:
            steered = self._offers.popleft()
            if steered.waits:
                return steered
        return None

    def offer(self, steered: Steered) -> None:
        """Offer a message; for the lanes."""
        self._offers.append(steered)
        self._wake(1)

    def close(self) -> None:
        """End every iteration: the turn is over; for the lanes."""
        self._closed = True
        self._offers.clear()
        self._wake(len(self._asking))

    def _wake(self, count: int) -> None:
        while self._asking and count:
            asking = self._asking.popleft()
            if not asking.done() and not asking.get_loop().is_closed():
                asking.set_result(None)
                count -= 1


class Shared(NamedTuple):
    """What a turn of ours shares with those whose messages it answers; told from None, and from what users share."""

    value: Any


class Talk:
    """The messages of one turn.

    Attributes:
        messages: those this turn answers, in the order of arrival; its own is the last.
        message: its own, or what `merge` made of all.
        dropped: those that were to be part of it and had to leave because too many were.
        principal: who the turn is made for.
        target: what would answer the message: only messages for the same one become one turn.
        steering: what was offered to it, None until somebody asks or offers.
        result: what the turn shares with those whose messages it answers.
        require: raises what is wrong with a merged message, before anybody is told that it is part of this turn.
        told: whether those have been told that their messages are part of this turn.
        taken: whether its own message is part of another turn.
        shares: whether those whose messages it answers wait for its result.
    """

    __slots__ = (
        "dropped",
        "message",
        "messages",
        "principal",
        "require",
        "result",
        "shares",
        "steering",
        "taken",
        "target",
        "told",
    )

    def __init__(self, message: Any = None, principal: Hashable = None, target: object = None) -> None:
        self.messages: tuple[Any, ...] = () if message is None else (message,)
        self.message: Any = message
        self.dropped: tuple[Any, ...] = ()
        self.principal: Hashable = principal
        self.target: object = target
        self.steering: Steering | None = None
        self.result: Any = None
        self.require: Callable[[Any], object] | None = None
        self.told: bool = False
        self.taken: bool = False
        self.shares: bool = False
