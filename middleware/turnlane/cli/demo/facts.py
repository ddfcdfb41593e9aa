"""What a burst leaves behind: facts about each message, without an opinion."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ("Api", "MessageFacts", "Moment", "RunFacts")

Api = Literal["chat", "responses"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When something happened on the server.

    `number` is its place in the order of all that happened, which is what is judged; `at` is in seconds
    since the first message arrived.
    """

    number: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFacts:
    """One message of the burst.

    Attributes:
        label: its name in the burst.
        key: the session key it was sent with.
        text: what the user said.
        api: which endpoint.
        stream: whether a stream was asked for.
        leaves: whether its client hung up while it waited.
        arrived: when it reached the server.
        started: when its turn began; None where it never ran.
        ended: when its turn ended.
        returned: when the server was done with the request, however it ended.
        session_id: the session its turn ran in.
        remembered: the earlier user messages of the history its model was given.
        answered: what the model said.
        received: what its client got.
        error: why its client got nothing.
    """

    label: str
    key: str
    text: str
    api: Api
    stream: bool
    leaves: bool
    arrived: Moment | None
    started: Moment | None
    ended: Moment | None
    returned: Moment | None
    session_id: str | None
    remembered: tuple[str, ...] | None
    answered: str | None
    received: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """One burst at one server.

    Attributes:
        name: which server.
        model: what answered.
        seconds: how long the burst took.
        messages: in the order they were planned.
        transcripts: the user messages of each stored transcript, by session id.
        lanes_left: lanes still held when every message was answered; None for a server without lanes.
    """

    name: str
    model: str
    seconds: float
    messages: tuple[MessageFacts, ...]
    transcripts: Mapping[str, tuple[str, ...]]
    lanes_left: int | None

    @property
    def keys(self) -> tuple[str, ...]:
        """The session keys, in the order of the plan."""
        return tuple(dict.fromkeys(message.key for message in self.messages))

    def of_key(self, key: str) -> tuple[MessageFacts, ...]:
        """The messages of one session key, in the order of the plan."""
        return tuple(message for message in self.messages if message.key == key)
