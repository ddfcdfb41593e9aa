"""Keeps account of messages: each is answered, steered or refused, once."""

from turnlane import Turn, errors

__all__ = ("Ledger",)


class Ledger:
    """What became of each message; they are numbers in the order of arrival.

    Mutable: all of it; `wrong` collects what was broken.
    """

    def __init__(self, wrong: list[str]) -> None:
        self.wrong = wrong
        self.answered: dict[int, str] = {}
        self.steered: dict[int, str] = {}
        self.taken: set[int] = set()
        self.refused: dict[int, str] = {}
        self.cancelled: set[int] = set()

    def begin(self, number: int, turn: Turn) -> None:
        """Note the messages of a turn that has begun; its own is the last."""
        messages = turn.messages
        if not messages or messages[-1] != number or list(messages) != sorted(messages):
            self.wrong.append(f"{turn} of message {number} answers {messages}")
        for message in messages:
            if message in self.answered or message in self.steered:
                self.wrong.append(f"message {message} is answered by {turn} and by {self.answered.get(message)}")
            self.answered[message] = turn.id

    def take(self, turn: Turn, *, finish: bool) -> None:
        """Take what is offered to a turn, and be done with it."""
        while (steered := turn.steering.take()) is not None:
            if steered.message in self.taken:
                self.wrong.append(f"message {steered.message} was taken twice")
            self.taken.add(steered.message)
            if finish and steered.done():
                if steered.message in self.answered:
                    self.wrong.append(f"message {steered.message} was answered before it was steered into {turn}")
                self.steered[steered.message] = turn.id
            elif finish and steered.waits:
                self.wrong.append(f"message {steered.message} waits although {turn} was done with it")

    def refuse(self, number: int, error: BaseException) -> None:
        """Note what its sender was told of a message that was no turn of its own."""
        self.refused[number] = type(error).__name__
        into = error.into if isinstance(error, errors.TurnRedirected) else None
        where = self.answered if isinstance(error, errors.TurnCoalesced) else self.steered
        if into is not None and where.get(number) != into:
            self.wrong.append(f"message {number} ended with {error!r}, its account says {where.get(number)}")

    def check_end(self, arrived: set[int]) -> None:
        """Check that every message has one account."""
        for number in arrived:
            accounts = [where[number] for where in (self.answered, self.steered) if number in where]
            redirected = self.refused.get(number) in ("TurnCoalesced", "TurnSteered")
            told = number in self.cancelled or (number in self.refused and not redirected)
            if len(accounts) > 1 or (not accounts and not told):
                self.wrong.append(f"message {number} has these accounts: {accounts}, {self.refused.get(number)}")
