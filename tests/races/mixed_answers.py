"""What the clients of a mixed load got, and whether that agrees with the accounts of their messages."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from races.mixed_app import OwnError, Sender
from races.mixed_book import Book
from races.mixed_load import Load, merge_two
from races.plans import MergeRefused
from turnlane import Coalesce, Interrupt, Reject, Rollback, Steer, errors

__all__ = ("Answers",)

QUEUED = b": queued\n"

# Who gets one of these was told that the message did not run.
NOT_RUN = frozenset({"lane_busy", "lane_full", "capacity", "principal_capacity", "wait_timeout"})


@dataclass(frozen=True, slots=True)
class Answer:
    """One response that came to its end: the turn that was `done`, or the `code` of a refusal and its `into`."""

    done: str | None = None
    words: tuple[str, ...] = ()
    code: str | None = None
    into: str | None = None


class Answers:
    """Compares what clients got with the accounts of a book. Mutable: `seen`, how often each outcome was."""

    def __init__(self, load: Load, book: Book) -> None:
        self._load = load
        self._book = book
        self.seen: dict[str, int] = {}

    def check(self, sender: Sender) -> str | None:
        """Return what is wrong with the end of a request, None if nothing is."""
        if sender.failure is not None:
            self._note(type(sender.failure).__name__)
            return None if self._may_fail(sender, sender.failure) else f"it failed with {sender.failure!r}"
        if sender.left or sender.cancelled:
            self._note("left" if sender.left else "cancelled")
            return None
        if not sender.whole:
            return f"its client stayed and got {sender.messages}"
        try:
            answer = _read(sender)
        except (ValueError, KeyError, TypeError) as error:
            return f"it got {sender.answer!r}: {error!r}"
        if QUEUED in sender.answer:
            self._note("kept alive")
        self._note(answer.code or ("answered" if sender.began else "shared"))
        return self._answered(sender, answer) if answer.code is None else self._refused(sender, answer, answer.code)

    def _note(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1

    def _answered(self, sender: Sender, answer: Answer) -> str | None:
        done = answer.done or ""
        account = self._book.turns.get(done)
        if account is None or account.lane != sender.lane or account.words != answer.words:
            return f"it got the answer {answer}, the account of that turn is {account}"
        if sender.word not in account.words:
            return f"its message is {sender.word}, it got the answer to {account.words}"
        if (sender.lane, done, sender.word) not in self._book.stored:
            return f"it was answered by {done}, which has not written {sender.word}"
        named = dict(sender.messages[0]["headers"]).get(b"x-turnlane-turn", b"").decode()
        if sender.began and account.number == sender.number and named != done:
            return f"it was answered by {done}, and its headers name {named!r}"
        return None

    def _refused(self, sender: Sender, answer: Answer, code: str) -> str | None:
        word, book = sender.word, self._book
        fate, ran = book.turn_of(word), sender.began or len(self._load.carriers(word)) > 1
        if not any(code in self._codes(number) for number in self._load.carriers(word)):
            return f"it got {code!r}, which is not to be"
        if code == "turn_coalesced":
            agrees = answer.into is not None and book.answered.get(word) == answer.into
        elif code == "turn_steered":
            agrees = answer.into is not None and book.steered.get(word) == answer.into
        elif code == "duplicate_outcome_unknown":
            agrees = fate is not None and ran
        elif code in NOT_RUN:
            agrees = not sender.began and (fate is None or ran)
        else:  # it was ended from outside, before its turn or in it, or a copy of it is on its way
            agrees = fate is None or ran
        return None if agrees else f"it got {answer}, the account of {word} is {fate}"

    def _codes(self, number: int) -> set[str]:
        """Return what a request may be refused with."""
        ask, load = self._load.asks[number], self._load
        policies = [other.policy for other in load.asks]
        codes = {"capacity", "principal_capacity"} if isinstance(ask.policy, Reject) else {"principal_capacity"}
        if isinstance(ask.policy, Reject):
            codes.add("lane_busy")
        elif not isinstance(ask.policy, Interrupt | Rollback) and ask.policy.max_waiting is not None:
            codes |= {"lane_full", "capacity"}
        if isinstance(ask.policy, Coalesce):
            codes |= {"lane_full", "turn_coalesced"}
        if isinstance(ask.policy, Steer):
            codes.add("turn_steered")
        if not isinstance(ask.policy, Reject) and ask.policy.wait_timeout is not None:
            codes.add("wait_timeout")
        if any(
            isinstance(p, Interrupt | Rollback) or (isinstance(p, Coalesce) and p.overflow == "oldest")
            for p in policies
        ):
            codes.add("turn_interrupted")
        if load.turn_timeout is not None:
            codes.add("turn_timeout")
        if len(load.carriers(load.word(number))) > 1:
            codes |= {"duplicate_running", "duplicate_outcome_unknown"}
            codes |= {"duplicate_stream"} if ask.stream else set()
        return codes

    def _may_fail(self, sender: Sender, failure: BaseException) -> bool:
        began = sender.began
        match failure:
            case asyncio.CancelledError():
                return sender.cancelled
            case OwnError():
                return began and sender.ask.fails != "no"
            case MergeRefused():
                policy = sender.ask.policy
                alone = self._book.turn_of(sender.word) is None or len(self._load.carriers(sender.word)) > 1
                return isinstance(policy, Coalesce) and policy.merge is merge_two and not began and alone
            case errors.TurnInterrupted():
                return began and bool(sender.messages or sender.left)
            case errors.TurnTimeout():
                return self._load.turn_timeout is not None and bool(sender.messages or sender.left)
            case OSError():
                return self._load.wire_breaks and sender.left
            case _:
                return False


def _read(sender: Sender) -> Answer:
    start, body = sender.messages[0], sender.answer
    if dict(start["headers"])[b"content-type"] != b"text/event-stream":
        return _told([json.loads(body)])
    if not sender.ask.stream:
        raise ValueError("a stream nobody asked for")
    while body.startswith(QUEUED):
        body = body.removeprefix(QUEUED)
    events = body.decode().split("\n\n")
    if events.pop() or ": queued" in events:
        raise ValueError("no stream of whole events")
    return _told([json.loads(event.removeprefix("event: error\n").removeprefix("data: ")) for event in events])


def _told(documents: list[dict[str, Any]]) -> Answer:
    last = documents[-1]
    if "error" in last:
        return Answer(code=last["error"]["code"], into=last.get("into"))
    return Answer(done=last["done"], words=tuple(last["words"]))
