"""What is wrong with a request."""

from turnlane.errors._base import TurnlaneError

__all__ = (
    "BodyTooLarge",
    "DuplicateMessage",
    "DuplicateNotKept",
    "DuplicateOfStream",
    "DuplicateOutcomeUnknown",
    "DuplicateRunning",
    "DuplicatesUnavailable",
    "IdempotencyKeyInvalid",
    "IdempotencyKeyReused",
    "MessageTooLarge",
    "PolicyNotAllowed",
    "RequestRefused",
    "SessionKeyInvalid",
    "SessionKeyRequired",
)


class RequestRefused(TurnlaneError):
    """Base of what is wrong with the request itself. `param` names the part of it."""

    param: str


class SessionKeyRequired(RequestRefused):
    """The request names no session and the server requires one."""

    def __init__(self, param: str) -> None:
        self.param = param
        super().__init__(f"this request must name its session in {param}")


class SessionKeyInvalid(RequestRefused, ValueError):
    """The request names its session in a form that is not accepted."""

    def __init__(self, param: str, *, reason: str) -> None:
        self.param = param
        self.reason: str = reason
        super().__init__(f"the session key in {param} is not valid: {reason}")


class PolicyNotAllowed(RequestRefused, ValueError):
    """The request asks for a policy that this server does not have, or does not let its clients choose."""

    def __init__(self, param: str, *, reason: str) -> None:
        self.param = param
        self.reason: str = reason
        super().__init__(f"the policy in {param} is not one this request may choose: {reason}")


class BodyTooLarge(RequestRefused):
    """The key is in the body and the body is larger than `body_limit` bytes."""

    def __init__(self, param: str, *, body_limit: int) -> None:
        self.param = param
        self.body_limit: int = body_limit
        super().__init__(f"the session key is in {param} and the body is larger than {body_limit} bytes")


class IdempotencyKeyInvalid(RequestRefused, ValueError):
    """The request names its message in a form that is not accepted."""

    def __init__(self, param: str, *, reason: str) -> None:
        self.param = param
        self.reason: str = reason
        super().__init__(f"the idempotency key in {param} is not valid: {reason}")


class IdempotencyKeyReused(RequestRefused):
    """Another message had this idempotency key: body, content type or query differ. Neither is run again."""

    def __init__(self, param: str) -> None:
        self.param = param
        super().__init__(f"the idempotency key in {param} belongs to a message that differs from this one")


class MessageTooLarge(RequestRefused):
    """The message has an idempotency key, and its body is larger than the `body_limit` bytes that can be compared."""

    def __init__(self, param: str, *, body_limit: int) -> None:
        self.param = param
        self.body_limit: int = body_limit
        super().__init__(
            f"the message named in {param} has a body of over {body_limit} bytes, which is not compared with others"
        )


class DuplicateMessage(RequestRefused):
    """Base of why a message that had arrived before has no answer here. It is not run a second time."""


class DuplicateRunning(DuplicateMessage):
    """The message waits for its lane or runs; its answer will be there later."""

    def __init__(self, param: str) -> None:
        self.param = param
        super().__init__(f"the message named in {param} has arrived before and is being answered")


class DuplicateOfStream(DuplicateMessage):
    """The message was answered with a stream, or asked for one; streams are not kept."""

    def __init__(self, param: str) -> None:
        self.param = param
        super().__init__(f"the message named in {param} has arrived before, and streams are not kept")


class DuplicateNotKept(DuplicateMessage):
    """The message was answered with more than the `max_answer` bytes that are kept, or in a form that can not be."""

    def __init__(self, param: str, *, max_answer: int) -> None:
        self.param = param
        self.max_answer: int = max_answer
        super().__init__(
            f"the message named in {param} was answered before; the answer was not kept "
            f"(over {max_answer} bytes, a file, or with trailers)"
        )


class DuplicateOutcomeUnknown(DuplicateMessage):
    """The message was given to the app before, and ended without an answer, or the process that ran it has ended."""

    def __init__(self, param: str) -> None:
        self.param = param
        super().__init__(f"the message named in {param} was run before, wholly or in part; it has no answer")


class DuplicatesUnavailable(TurnlaneError, ConnectionError):
    """It can not be told whether a message has arrived before, so it is not run: the store is locked, full or gone."""

    def __init__(self, *, where: str, operation: str, reason: str) -> None:
        self.where: str = where
        self.operation: str = operation
        self.reason: str = reason
        super().__init__(f"duplicate store {where} could not {operation} a message: {reason}")
