"""What an app was asked and what it wrote, kept beside the transcripts, and what must be found in them."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from support.transcripts_scenes import salvaged_in
from turnlane import Turn

__all__ = ("PEER", "Account", "Book")

PEER = "peer"


@dataclass(frozen=True, slots=True)
class Account:
    """A turn that has begun: in which lane, for the request of which number, and the messages it answers."""

    lane: str
    number: int
    words: tuple[str, ...]


class Book:
    """The accounts of one run. What `store` has stored must be in the transcript of its lane, and nothing else.

    Mutable: `turns` (those that have begun, by id, in their order), `answered` (by message, the turn that answers it),
    `steered` (by message, the turn that was done with it), `completed` (turns that have written all they had to write),
    `stored` (lane, author and words), `staged` (what was handed over to be stored later), `doomed` (turns whose place
    was taken by a rollback, and by whom), `wrong`.
    """

    def __init__(self, wrong: list[str]) -> None:
        self.wrong = wrong
        self.turns: dict[str, Account] = {}
        self.answered: dict[str, str] = {}
        self.steered: dict[str, str] = {}
        self.completed: set[str] = set()
        self.stored: list[tuple[str, str, str]] = []
        self.staged: list[str] = []
        self.doomed: dict[str, set[int]] = {}
        self._paths: dict[str, Path] = {}

    # -- messages

    def begin(self, turn: Turn, number: int, words: Sequence[str]) -> None:
        """Note that a turn answers some messages."""
        self.turns[turn.id] = Account(turn.key, number, tuple(words))
        for word in words:
            self._require_new(word, turn, "is answered")
            self.answered[word] = turn.id

    def steer(self, turn: Turn, word: str) -> None:
        """Note that a turn was done with a message that was offered to it."""
        self._require_new(word, turn, "was steered")
        self.steered[word] = turn.id

    def _require_new(self, word: str, turn: Turn, what: str) -> None:
        before = self.answered.get(word) or self.steered.get(word)
        if before is not None:
            self.wrong.append(f"message {word} {what} by {turn}, and it was {before}'s before")

    def turn_of(self, word: str) -> str | None:
        """Return the turn that answers a message, or was done with it."""
        return self.answered.get(word) or self.steered.get(word)

    def doom(self, turn: Turn, by: int) -> None:
        """Note that what a turn wrote and will write has to go."""
        self.doomed.setdefault(turn.id, set()).add(by)

    def spare(self, by: int) -> None:
        """Note that a rollback was refused."""
        for number in self.doomed.values():
            number.discard(by)

    # -- what is written

    def opened(self, turn: Turn, path: str) -> None:
        """Note where the transcript of a turn is."""
        self._paths[turn.key] = Path(path)

    async def store(self, lane: str, author: str, words: str, write: Callable[[Any], Awaitable[None]]) -> None:
        """Write some words; where that is broken off they may be stored or not, and are looked for."""
        entry = {"role": "user", "content": words, "turn": author}
        try:
            await write(entry)
        except BaseException:
            if (author, words) in self.entries(lane):
                self.stored.append((lane, author, words))
            raise
        self.stored.append((lane, author, words))

    def entries(self, lane: str) -> list[tuple[str, str]]:
        """Return authors and words of what a transcript holds."""
        path = self._paths.get(lane)
        if path is None or not path.exists():
            return []
        found = [json.loads(line) for line in path.read_text().splitlines()]
        return [(entry["turn"], entry["content"]) for entry in found]

    def check_lane(self, lane: str) -> None:
        """Check a transcript no turn writes: all is there that must be, nothing else, turn by turn."""
        mine = [(author, words) for of, author, words in self.stored if of == lane]
        expected = [pair for pair in mine if not self.doomed.get(pair[0])]
        found = self.entries(lane)
        if Counter(found) != Counter(expected):
            missing, alien = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
            self.wrong.append(f"the transcript of {lane!r} lacks {list(missing)} and has {list(alien)} too many")
        authors = [author for author, _ in groupby(author for author, _ in found if author != PEER)]
        if authors != [turn for turn in self.turns if turn in authors]:
            self.wrong.append(f"the turns of {lane!r} wrote in this order: {authors}, they began as {list(self.turns)}")
        gone = [words for author, words in mine if self.doomed.get(author)]
        lost = Counter(gone) - Counter(self.salvage())
        if lost:
            self.wrong.append(f"{list(lost)} were taken out of the transcript of {lane!r} and are not in its salvage")

    def check_words(self) -> None:
        """Check that nothing was lost that was asked or handed over."""
        written = {(author, words) for _, author, words in self.stored}
        for word, turn in (*self.answered.items(), *self.steered.items()):
            if turn in self.completed and (turn, word) not in written:
                self.wrong.append(f"message {word} is not in the transcript, and {turn} has answered it")
        lost = set(self.staged) - {words for _, _, words in self.stored} - set(self.salvage())
        if lost:
            self.wrong.append(f"{sorted(lost)} were staged and are nowhere")

    def salvage(self) -> list[str]:
        """Return the words that were salvaged."""
        return [words for path in {path.parent for path in self._paths.values()} for words in salvaged_in(path)]
