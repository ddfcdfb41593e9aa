"""Keeps account of messages that may be answered in any worker: each once, whatever its sender is told."""

from dataclasses import dataclass, field
from typing import Any

from races.plans import MergeRefused
from turnlane import Turn, errors

__all__ = ("Account", "Private", "Sent", "number_of")


class Private:
    """A message that only its own process can read."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"Private({self.number})"


def number_of(message: Any) -> int:
    """Return the number of a message."""
    return int(message.number if isinstance(message, Private) else message)


@dataclass(slots=True)
class Sent:
    """One message, and what its sender was told. `turn` is the ticket, once it is known; `result` what was shared."""

    number: int
    turn: str = ""
    told: str = ""
    error: BaseException | None = None


@dataclass(slots=True)
class Account:
    """What became of each message; they are numbers in the order of arrival.

    Mutable: all of it; `wrong` collects what was broken. `answers` are the turns that answered a message, `results`
    what a turn has shared, `unsure` turns that may not have told what they did: they lost their lane, or their worker
    was killed.
    """

    wrong: list[str]
    sent: dict[int, Sent] = field(default_factory=dict[int, Sent])
    answers: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    taken: dict[int, str] = field(default_factory=dict[int, str])
    refused: dict[int, int] = field(default_factory=dict[int, int])
    results: dict[str, object] = field(default_factory=dict[str, object])
    unsure: set[str] = field(default_factory=set[str])

    def begin(self, number: int, turn: Turn) -> None:
        """Note the messages of a turn that has begun; its own is the last."""
        self.sent[number].turn = turn.id
        messages = [number_of(message) for message in turn.messages]
        if not messages or messages[-1] != number or len(set(messages)) != len(messages):
            self.wrong.append(f"{turn} of message {number} answers {messages}")
        for message in messages:
            self.answers.setdefault(message, []).append(turn.id)

    def take(self, turn: Turn, *, finish: bool) -> None:
        """Take what is offered to a turn, and be done with it."""
        while (steered := turn.steering.take()) is not None:
            number = number_of(steered.message)
            if number in self.taken:
                self.wrong.append(f"message {number} was offered to {self.taken[number]}, and to {turn}")
            self.taken[number] = turn.id
            if finish and steered.done():
                self.answers.setdefault(number, []).append(turn.id)

    def refuse(self, number: int, error: BaseException) -> None:
        """Note what its sender was told of a message that was no turn of its own."""
        self.sent[number].told, self.sent[number].error = type(error).__name__, error
        if isinstance(error, MergeRefused):
            for message in error.args[0][:-1]:
                count = self.refused[number_of(message)] = self.refused.get(number_of(message), 0) + 1
                if count > 1:
                    self.wrong.append(f"message {message} was to be merged again: {error!r}")

    def check_end(self, excused: set[int], *, all_may_be: bool) -> None:
        """Check that every message has one account; those of `excused` may have been answered twice."""
        for number, sent in self.sent.items():
            answers = self.answers.get(number, [])
            error = sent.error
            if isinstance(error, errors.TurnRedirected):
                self._check_redirected(number, error, answers)
            elif sent.told == "completed" and sent.turn not in answers:
                self.wrong.append(f"message {number} was answered by {answers}, and not by its own {sent.turn}")
            elif not sent.told:
                self.wrong.append(f"the sender of message {number} was told nothing")
            unsure = sum(turn in self.unsure for turn in answers)
            if len(answers) - unsure > 1 and not all_may_be and number not in excused:
                self.wrong.append(f"message {number} is answered by {answers}; its sender was told {sent.told}")

    def _check_redirected(self, number: int, error: errors.TurnRedirected, answers: list[str]) -> None:
        if error.into not in answers:
            self.wrong.append(f"message {number} ended with {error!r}, it was answered by {answers}")
        if isinstance(error, errors.TurnCoalesced) and error.into not in self.unsure:
            shared = self.results.get(error.into)
            if error.result != shared:
                self.wrong.append(f"message {number} got the result {error.result!r}, its turn shared {shared!r}")
