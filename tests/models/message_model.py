"""What becomes of messages on one lane under all policies, said as plainly as possible.

Messages are numbers in the order of arrival. It shares no idea with the lanes but the meaning of the words.
"""

from dataclasses import dataclass, field
from typing import Literal, Self

__all__ = ("Happening", "MessageModel", "Name", "Place")

Name = Literal["enqueue", "reject", "interrupt", "coalesce", "fussy", "steer"]
"""A policy by its name; "fussy" is `Coalesce` with a merge that always raises."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happens, to the message of that number.

    A lane is handed over before the turn knows: it begins with "wake". "quiet" ends the window of the group that a
    message is in.
    """

    what: Literal["arrive", "wake", "finish", "cancel", "take", "done", "quiet"]
    message: int

    def __str__(self) -> str:
        return f"{self.what} {self.message}"


@dataclass(slots=True)
class Place:
    """A place in line: of one message, or of several that will be one turn once it was quiet for long enough.

    `gathers` names the policy of those that may join.
    """

    messages: list[int]
    gathers: Name | None = None
    quiet: bool = True

    def copy(self) -> Self:
        """Return another in the same state."""
        return type(self)(self.messages.copy(), self.gathers, self.quiet)


@dataclass(slots=True)
class MessageModel:
    """One lane.

    `holder` is the message whose turn has the lane, `carried` are those that came with it and are told when it has
    begun; `offered` and `taken` belong to that turn. `fate` is what became of a message, and through which one.
    """

    policies: tuple[Name, ...]
    arrived: int = 0
    holder: int | None = None
    begun: bool = False
    asked: bool = False
    carried: list[int] = field(default_factory=list[int])
    offered: list[int] = field(default_factory=list[int])
    taken: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    line: list[Place] = field(default_factory=list[Place])
    fate: dict[int, tuple[str, int]] = field(default_factory=dict[int, tuple[str, int]])

    def copy(self) -> Self:
        """Return another model in the same state."""
        return type(self)(
            self.policies,
            self.arrived,
            self.holder,
            self.begun,
            self.asked,
            self.carried.copy(),
            self.offered.copy(),
            self.taken.copy(),
            [place.copy() for place in self.line],
            self.fate.copy(),
        )

    def waiting(self) -> list[int]:
        """Return who stands in line."""
        return [message for place in self.line for message in place.messages]

    def possible(self) -> list[Happening]:
        """Return what may happen next."""
        found: list[Happening] = []
        if self.arrived < len(self.policies):
            found.append(Happening("arrive", self.arrived))
        if self.holder is not None:
            found.append(Happening("finish" if self.begun else "wake", self.holder))
            if not self.begun:
                found.append(Happening("cancel", self.holder))
            elif any(message in self.waiting() for message in self.offered):
                found.append(Happening("take", self.holder))
        found += [Happening("cancel", message) for message in (*self.carried, *self.waiting())]
        found += [Happening("quiet", place.messages[0]) for place in self.line if not place.quiet]
        found += [Happening("done", message) for message, _ in self.taken]
        return found

    def happen(self, event: Happening) -> None:
        """Let something happen."""
        message = event.message
        match event.what:
            case "arrive":
                self._arrive(message)
            case "wake" if self.policies[message] == "fussy" and self.carried:
                self.fate[message] = ("failed", message)
                alone, self.carried = [Place([each]) for each in self.carried], []
                self.line = alone + self.line
                self._end()
            case "wake":
                self._begin(message)
            case "finish":
                self._end()
            case "cancel":
                self._cancel(message)
            case "take":
                taken = next(each for each in self.offered if each in self.waiting())
                self.offered = self.offered[self.offered.index(taken) + 1 :]
                self.taken.append((taken, message))
            case "done":
                self._done(message)
            case "quiet":
                place = next(place for place in self.line if message in place.messages)
                place.quiet = True
        self._hand_over()

    def _arrive(self, message: int) -> None:
        self.arrived += 1
        policy = self.policies[message]
        if self.holder is None and not self.line:
            self.holder = message
            self._begin(message)
        elif policy == "reject":
            self.fate[message] = ("busy", message)
        elif policy in ("coalesce", "fussy"):
            if not self.line or self.line[-1].gathers != policy:
                self.line.append(Place([], gathers=policy))
            self.line[-1].messages.append(message)
            self.line[-1].quiet = False
        else:
            if policy == "interrupt":
                for earlier in (*self.waiting(), *self.carried):
                    self.fate[earlier] = ("superseded", message)
                self.line, self.carried = [], []
                self.asked = self.holder is not None
            elif policy == "steer" and self.holder is not None and not self.asked:
                self.offered.append(message)
            self.line.append(Place([message]))

    def _begin(self, message: int) -> None:
        self.begun = True
        self.fate[message] = ("answered", message)
        for other in self.carried:
            self.fate[other] = ("coalesced", message)
        self.carried = []

    def _end(self) -> None:
        if self.carried and self.holder is not None:
            self.line.insert(0, Place(self.carried, gathers=self.policies[self.holder]))
        self.holder, self.begun, self.asked, self.carried, self.offered = None, False, False, [], []

    def _cancel(self, message: int) -> None:
        self.fate[message] = ("cancelled", message)
        if message == self.holder:
            self._end()
        elif message in self.carried:
            self.carried.remove(message)
        else:
            self._leave_line(message)

    def _done(self, message: int) -> None:
        by = next(holder for taken, holder in self.taken if taken == message)
        self.taken.remove((message, by))
        if message in self.waiting() and by == self.holder:
            self.fate[message] = ("steered", by)
            self._leave_line(message)

    def _leave_line(self, message: int) -> None:
        for place in self.line:
            if message in place.messages:
                place.messages.remove(message)
        self.line = [place for place in self.line if place.messages]

    def _hand_over(self) -> None:
        if self.holder is None and self.line and self.line[0].quiet:
            *self.carried, self.holder = self.line.pop(0).messages
