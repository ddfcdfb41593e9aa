"""What a lane refuses or ends."""

from turnlane.errors._base import TurnlaneError

__all__ = (
    "CallChainTooLong",
    "CapacityExceeded",
    "ConsumerIdle",
    "LaneBusy",
    "LaneError",
    "LaneFull",
    "LaneReentry",
    "LanesDraining",
    "PrincipalCapacityExceeded",
    "TurnCoalesced",
    "TurnInterrupted",
    "TurnRedirected",
    "TurnSteered",
    "TurnTimeout",
    "WaitTimeout",
)


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
    """The turn waited `wait_timeout` seconds for its lane and left the line; it never ran.

    `holder` is the id of the turn of this process that held it, or None.
    """

    def __init__(self, key: str, *, wait_timeout: float, holder: str | None) -> None:
        self.key = key
        self.wait_timeout: float = wait_timeout
        self.holder: str | None = holder
        others = "no turn of this process held it (one of another did, it was paused, or no running slot was free)"
        whose = f"turn {holder} held it" if holder else others
        super().__init__(f"lane {key!r} was not free within {wait_timeout:g} s; {whose}")


class TurnTimeout(LaneError, TimeoutError):
    """The turn ran longer than `turn_timeout` seconds and was cancelled."""

    def __init__(self, key: str, *, turn: str, turn_timeout: float) -> None:
        self.key = key
        self.turn: str = turn
        self.turn_timeout: float = turn_timeout
        super().__init__(f"turn {turn} of lane {key!r} ran longer than its turn_timeout of {turn_timeout:g} s")


class ConsumerIdle(LaneError, TimeoutError):
    """The consumer of a generator turn did not ask for the next item in time; the turn was ended, its lane let go."""

    def __init__(self, key: str, *, turn: str, idle_consumer_timeout: float) -> None:
        self.key = key
        self.turn: str = turn
        self.idle_consumer_timeout: float = idle_consumer_timeout
        super().__init__(
            f"turn {turn} of lane {key!r} was ended: its consumer asked for nothing for {idle_consumer_timeout:g} s "
            "(idle_consumer_timeout)"
        )


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


class TurnRedirected(LaneError):
    """Another turn took this one's message over, so it did not run itself. `into` is the id of that turn."""

    _how = "was redirected into"

    def __init__(self, key: str, *, turn: str, into: str) -> None:
        self.key = key
        self.turn: str = turn
        self.into: str = into
        super().__init__(f"turn {turn} of lane {key!r} {self._how} turn {into}")


class TurnCoalesced(TurnRedirected):
    """`Coalesce`: the message became part of the turn of a newer one. `result` is what that turn shared, if it did."""

    _how = "was coalesced into"

    def __init__(self, key: str, *, turn: str, into: str, result: object = None) -> None:
        self.result: object = result
        super().__init__(key, turn=turn, into=into)


class TurnSteered(TurnRedirected):
    """`Steer`: the running turn took the message and was done with it."""

    _how = "was steered into"


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


class CallChainTooLong(LaneError, RuntimeError):
    """More turns call each other over HTTP than any chain that means to end. `turns` and `limit` count them.

    `key` is the lane of the turn that would have passed the chain on.
    """

    def __init__(self, key: str, *, turns: int, limit: int) -> None:
        self.key = key
        self.turns: int = turns
        self.limit: int = limit
        super().__init__(f"lane {key!r} ends a call chain of {turns} turns, and {limit} may be passed on")


class LanesDraining(LaneError):
    """The lanes refuse new turns because the process is going away; another worker may take it."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"lane {key!r} takes no new turn: these lanes are draining")


class CapacityExceeded(LaneError):
    """A cap of the whole process, or of one principal, is reached. `resource` names it, `limit` is its size."""

    def __init__(self, key: str | None, *, resource: str, limit: int) -> None:
        self.key: str = key or ""
        self.resource: str = resource
        self.limit: int = limit
        super().__init__(f"no room: {resource} is at its limit of {limit}")


class PrincipalCapacityExceeded(CapacityExceeded):
    """A cap of one principal is reached; there may be room for others."""
