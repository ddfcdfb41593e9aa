"""What can go wrong between a client and its server. Nothing in here needs the driver."""

__all__ = ("Forked", "Refused", "Unreachable")


class Forked(Exception):
    """This process was forked from the one that opened the client."""


class Refused(Exception):
    """The server answered with an error.

    Attributes:
        code: the first word of it: WRONGTYPE, OOM, NOPERM, ...
        answer: the whole of it.
    """

    def __init__(self, code: str, answer: str) -> None:
        self.code = code
        self.answer = answer
        super().__init__(f"Redis refused ({answer})")


class Unreachable(Exception):
    """The server did not answer in time.

    Attributes:
        sent: whether it may have got the command, now or later; False proves that it never will.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        self.sent = sent
        super().__init__(reason)
