"""The words in which the model of messages and its driver speak to each other."""

from dataclasses import dataclass
from typing import Literal

__all__ = (
    "EVERYTHING",
    "GATHERING",
    "LIMITED",
    "MOST_MERGED",
    "NOBODY",
    "TAKING_OVER",
    "USUAL",
    "Happening",
    "Name",
    "Scene",
    "What",
)

Name = Literal["enqueue", "reject", "interrupt", "rollback", "coalesce", "fussy", "share", "refuse", "oldest", "steer"]
"""A policy by its name. `Coalesce` has five: "fussy" has a merge that always raises, "share" shares its result,
"refuse" and "oldest" merge `MOST_MERGED` and have their name from what one message more does."""

GATHERING: tuple[Name, ...] = ("coalesce", "fussy", "share", "refuse", "oldest")
LIMITED: tuple[Name, ...] = ("refuse", "oldest")
TAKING_OVER: tuple[Name, ...] = ("interrupt", "rollback")

MOST_MERGED = 2

NOBODY = -1
"""Where a message would be named: the operator who interrupts, the turn that nobody had when a wait expired."""

What = Literal[
    "arrive", "wake", "finish", "cancel", "take", "done", "quiet", "fail", "stop", "interrupt", "cut", "expire"
]

USUAL: frozenset[What] = frozenset({"arrive", "wake", "finish", "cancel", "take", "done", "quiet"})


RARE: frozenset[What] = frozenset({"fail", "stop", "interrupt", "cut", "expire"})
EVERYTHING: frozenset[What] = USUAL | RARE


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happens, to the message of that number.

    A lane is handed over before the turn knows: it begins with "wake". It ends well with "finish", with an error of
    its own with "fail", and with a cancellation with "stop"; before it has begun, and in line, that is "cancel".
    "interrupt" is an operator's; "cut" is the end of the grace after any interruption. "quiet" ends the window of the
    group that a message is in, "expire" its wait.
    """

    what: What
    message: int

    def __str__(self) -> str:
        return f"{self.what} {self.message}"


@dataclass(frozen=True, slots=True)
class Scene:
    """What is tried: the policies of the messages in the order of arrival, and the kinds of happenings.

    The first message always finds an idle lane, so of its policy nothing is seen. `principals` are those the messages
    are for, nobody if there are none, and of each so many may wait.
    """

    policies: tuple[Name, ...]
    kinds: frozenset[What] = USUAL
    principals: tuple[str, ...] = ()
    most_waiting: int | None = None

    def __str__(self) -> str:
        whom = f" for {', '.join(self.principals)}, of each {self.most_waiting} may wait" if self.principals else ""
        return f"{', '.join(self.policies)}{whom}"

    def whom(self, message: int) -> str:
        """Return the principal of a message."""
        return self.principals[message] if self.principals else ""
