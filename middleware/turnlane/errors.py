"""The error tree.

Every error carries its facts as attributes, pickles, and prints one line that says which guard
refused, about what, and what settles it. Turning an error into an HTTP response happens in
`turnlane.asgi.refusals`, nowhere else.
"""

from typing import Any, TypeVar

__all__ = (
    "BodyTooLarge",
    "CapacityExceeded",
    "LaneBusy",
    "LaneError",
    "LaneFull",
    "LaneReentry",
    "LanesDraining",
    "NotConfigured",
    "RequestRefused",
    "SessionConflict",
    "SessionCorrupt",
    "SessionError",
    "SessionKeyInvalid",
    "SessionKeyRequired",
    "SessionStoreUnavailable",
    "TurnInterrupted",
    "TurnTimeout",
    "TurnlaneError",
    "WaitTimeout",
)

_E = TypeVar("_E", bound=BaseException)


def _restore(cls: type[_E], args: tuple[Any, ...], facts: dict[str, Any]) -> _E:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class TurnlaneError(Exception):
    """Base of every error this package raises on purpose, invalid arguments (`ValueError`) aside."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Leaves take their facts by keyword, which the inherited `cls(*args)` could not repeat.
        return _restore, (type(self), self.args, self.__dict__.copy())


class NotConfigured(TurnlaneError, RuntimeError):
    """A part of the runtime was used that nobody configured or opened; the message says what to add."""


class LaneError(TurnlaneError):
    """Base of what a lane refuses or ends. `key` names the lane."""

    key: str


class LaneBusy(LaneError):
    """`Reject`: the lane had a running or waiting turn. `ahead` counts them."""

    def __init__(self, key: str, *, ahead: int) -> None:
        self.key = key
        self.ahead: int = ahead
        super().__init__(f"lane {key!r} is busy: {ahead} ahead and the policy is reject")


class LaneFull(LaneError):
    """The line of the lane is as long as the policy allows. `waiting` and `max_waiting` are turns."""

    def __init__(self, key: str, *, waiting: int, max_waiting: int) -> None:
        self.key = key
        self.waiting: int = waiting
        self.max_waiting: int = max_waiting
        super().__init__(f"lane {key!r} is full: {waiting} turns wait and max_waiting is {max_waiting}")


class WaitTimeout(LaneError, TimeoutError):
    """The turn waited `wait_timeout` seconds for its lane and left the line; it never ran."""

    def __init__(self, key: str, *, wait_timeout: float, holder: str | None) -> None:
        self.key = key
        self.wait_timeout: float = wait_timeout
        self.holder: str | None = holder
        whose = f"turn {holder} held it" if holder else "nobody held it (paused, or no running slot was free)"
        super().__init__(f"lane {key!r} was not free within {wait_timeout:g} s; {whose}")


class TurnTimeout(LaneError, TimeoutError):
    """The turn ran longer than `turn_timeout` seconds and was cancelled."""

    def __init__(self, key: str, *, turn: str, turn_timeout: float) -> None:
        self.key = key
        self.turn: str = turn
        self.turn_timeout: float = turn_timeout
        super().__init__(f"turn {turn} of lane {key!r} ran longer than its turn_timeout of {turn_timeout:g} s")


class TurnInterrupted(LaneError):
    """The turn was ended for another's sake: cancelled while it ran, or superseded while it waited.

    `into` is the id of the turn that took its place, None when an operator interrupted it;
    `running` tells whether it had started.
    """

    def __init__(self, key: str, *, turn: str, into: str | None, running: bool) -> None:
        self.key = key
        self.turn: str = turn
        self.into: str | None = into
        self.running: bool = running
        what = "interrupted" if running else "superseded while it waited"
        whom = f"by turn {into}" if into else "by an operator"
        super().__init__(f"turn {turn} of lane {key!r} was {what} {whom}")


class LaneReentry(LaneError, RuntimeError):
    """The call chain asked for a lane that it holds itself, or that waits for one it holds.

    Waiting would never end. `cycle` lists the lanes from the one asked for to the one held.
    """

    def __init__(self, key: str, *, cycle: tuple[str, ...]) -> None:
        self.key = key
        self.cycle: tuple[str, ...] = cycle
        path = " -> ".join(repr(lane) for lane in cycle)
        super().__init__(
            f"lane {key!r} can not be waited for here, the wait would never end: {path}; "
            "pass the running turn on instead, or start the work in turn.detached()"
        )


class LanesDraining(LaneError):
    """The lanes refuse new turns because the process is going away; another worker may take it."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"lane {key!r} takes no new turn: these lanes are draining")


class CapacityExceeded(LaneError):
    """A cap of the whole process is reached. `resource` names it, `limit` is its size."""

    def __init__(self, key: str | None, *, resource: str, limit: int) -> None:
        self.key: str = key or ""
        self.resource: str = resource
        self.limit: int = limit
        super().__init__(f"no room: {resource} is at its limit of {limit}")


class SessionError(TurnlaneError):
    """Base of what a session store refuses. `key` is the session key, or the id where no key is known."""

    key: str


class SessionConflict(SessionError):
    """The entry changed since it was read. `fields` names the pinned fields that differ."""

    def __init__(
        self, key: str, *, expected_version: int | None, found_version: int | None, fields: tuple[str, ...] = ()
    ) -> None:
        self.key = key
        self.expected_version: int | None = expected_version
        self.found_version: int | None = found_version
        self.fields: tuple[str, ...] = fields
        what = f"fields {', '.join(fields)} changed" if fields else f"version {expected_version} was expected"
        found = f"version is {found_version}" if found_version is not None else "there is no entry now"
        super().__init__(f"session {key!r}: {what}, {found}; read it again and decide anew")


class SessionCorrupt(SessionError, ValueError):
    """A stored entry can not be read. `where` names the store and the place in it."""

    def __init__(self, key: str, *, where: str, reason: str) -> None:
        self.key = key
        self.where: str = where
        self.reason: str = reason
        super().__init__(f"session {key!r} in {where} can not be read: {reason}")


class SessionStoreUnavailable(SessionError, ConnectionError):
    """The session store did not do the operation: it is locked, full, gone or not a store."""

    def __init__(self, key: str, *, where: str, operation: str, reason: str) -> None:
        self.key = key
        self.where: str = where
        self.operation: str = operation
        self.reason: str = reason
        super().__init__(f"session store {where} could not {operation} {key!r}: {reason}")


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


class BodyTooLarge(RequestRefused):
    """The key is in the body and the body is larger than `body_limit` bytes."""

    def __init__(self, param: str, *, body_limit: int) -> None:
        self.param = param
        self.body_limit: int = body_limit
        super().__init__(f"the session key is in {param} and the body is larger than {body_limit} bytes")
