"""What happens to a turn that finds its lane busy."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, cast

from turnlane.arguments import optional_count, optional_seconds, seconds
from turnlane.errors import PolicyNotAllowed

__all__ = (
    "Coalesce",
    "Enqueue",
    "Interrupt",
    "Merge",
    "Policy",
    "PolicyChoice",
    "PolicyHeader",
    "Reject",
    "Rollback",
    "Steer",
    "from_header",
    "policy_from_setting",
)

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Merge = Callable[[Sequence[Any]], Any]
"""Makes one message of several, which are given in the order of their arrival."""


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Wait in line, first in, first out. The default.

    Args:
        max_waiting: how many turns may stand in line; one more is refused with `LaneFull`. None: no limit.
        wait_timeout: seconds a turn waits before it leaves the line with `WaitTimeout`. None: no limit.
        hint_after: with this many turns or more ahead the turn still waits, and says so: in its
            `TurnQueued` event and in the response header `x-turnlane-hint`.
    """

    max_waiting: int | None = 20
    wait_timeout: float | None = 300.0
    hint_after: int | None = None

    def __post_init__(self) -> None:
        optional_count("max_waiting", self.max_waiting, least=0)
        optional_count("hint_after", self.hint_after, least=1)
        object.__setattr__(self, "wait_timeout", optional_seconds("wait_timeout", self.wait_timeout))


@dataclass(frozen=True, slots=True)
class Reject:
    """Do not wait: a busy lane is `LaneBusy` at once."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Take the place of the running turn and of everybody who waits.

    The running turn sees `turn.interrupted` at once; after `grace` seconds its task is cancelled, once.
    The arriving turn runs when the interrupted one has cleaned up, never beside it.

    Not guaranteed: that a turn is cancelled while its task waits for a worker thread. The thread could not be stopped
    and would run beside the successor, so it is waited for; a turn that goes from one thread straight to the next is
    cancelled only where it awaits something else in between.

    Args:
        grace: seconds the running turn has to end by itself.
        wait_timeout: seconds the arriving turn waits for that before it gives up with `WaitTimeout`.
    """

    grace: float = 5.0
    wait_timeout: float | None = 300.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "grace", seconds("grace", self.grace))
        object.__setattr__(self, "wait_timeout", optional_seconds("wait_timeout", self.wait_timeout))


@dataclass(frozen=True, slots=True)
class Rollback:
    """Take the place of the running turn, as with `Interrupt`, and take back what it has written.

    When the interrupted turn has cleaned up, and before the next turn of its key runs, whichever that is, its entries
    are taken out of the transcript and put into the salvage; see `Transcripts.take_out`. Entries of others stay. Where
    that can not be done the turn that was to run ends with the transcript's error, and the one after it tries again.
    What the interrupted turn did elsewhere stays done. On an idle lane the last turn to write is taken back if it has
    not ended, because its process died in the middle of it.

    Needs a runtime whose transcripts are made with `trace_turns=True`. Not guaranteed: that what a process that died
    has left, or was to take back, is taken out before another message with this policy comes, nor once a turn has
    written behind it.

    Args:
        grace: seconds the running turn has to end by itself.
        wait_timeout: seconds the arriving turn waits for that before it gives up with `WaitTimeout`.
    """

    grace: float = 5.0
    wait_timeout: float | None = 300.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "grace", seconds("grace", self.grace))
        object.__setattr__(self, "wait_timeout", optional_seconds("wait_timeout", self.wait_timeout))


@dataclass(frozen=True, slots=True)
class Coalesce:
    """Become one turn with the messages that wait right beside this one, after a quiet window.

    On an idle lane a message runs at once. On a busy one it waits for those that follow it: messages that stand side by
    side, of one principal, for the same endpoint or function and with this same policy, start as one turn when the lane
    is free and nobody has followed for `window` seconds. It is the turn of the newest, with `turn.messages` in the
    order of arrival; the others end with `TurnCoalesced(into=turn id)` when it has begun. If the newest leaves before,
    the next newest carries the rest. If `merge` raises, its turn fails with that and each of the others becomes a turn
    of its own.

    A turn without a message, or nested in a running one, stands alone and waits as with `Enqueue`.

    Args:
        window: seconds without another message after which the turn starts. 0: as soon as the lane is free.
        merge: makes one message of several, called in the turn's own task; None leaves them to `turn.messages`.
            Messages of several processes are merged where its module and name say that it is the same function.
        share_result: the others wait until the turn has ended and get its result: what `turn.share` was given, of a
            request its whole response, of an `agent_turn` function what it returned. A turn that fails has none.
        max_merged: how many messages one turn may answer; a full group does not wait for the window.
        overflow: what one message more does: it is refused with `LaneFull` ("refuse"), or takes the place of the
            oldest ("oldest"), which ends with `TurnInterrupted`, and is told to the turn as `turn.dropped`.
        max_waiting: how many turns may stand in line, this group counted as one. None: no limit.
        wait_timeout: seconds a message waits before it leaves the line with `WaitTimeout`. None: no limit.
    """

    window: float = 0.5
    merge: Merge | None = None
    share_result: bool = False
    max_merged: int = 20
    overflow: Literal["refuse", "oldest"] = "refuse"
    max_waiting: int | None = 20
    wait_timeout: float | None = 300.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", seconds("window", self.window))
        object.__setattr__(self, "wait_timeout", optional_seconds("wait_timeout", self.wait_timeout))
        optional_count("max_waiting", self.max_waiting, least=0)
        if optional_count("max_merged", self.max_merged, least=1) is None:
            raise ValueError("max_merged must be an int, at least 1: a turn answers so many messages at most")
        if self.merge is not None and not callable(self.merge):
            raise ValueError(f"merge must be a function of the messages, not {self.merge!r}")
        if self.overflow not in ("refuse", "oldest"):
            raise ValueError(f"overflow must be 'refuse' or 'oldest', not {self.overflow!r}")


@dataclass(frozen=True, slots=True)
class Steer:
    """Offer the message to the turn that runs, and wait in line meanwhile.

    The running turn may take it from `turn.steering`; once it says `done()`, this one ends with
    `TurnSteered(into=turn id)`. If it ends without that, however it ends, the message becomes a turn of its own in its
    place in line. It is offered to the turn that ran when it arrived, to no other, and only if that is for the same
    principal.

    Args:
        max_waiting: how many turns may stand in line; one more is refused with `LaneFull`. None: no limit.
        wait_timeout: seconds the message waits before it leaves the line with `WaitTimeout`. None: no limit.
    """

    max_waiting: int | None = 20
    wait_timeout: float | None = 300.0

    def __post_init__(self) -> None:
        optional_count("max_waiting", self.max_waiting, least=0)
        object.__setattr__(self, "wait_timeout", optional_seconds("wait_timeout", self.wait_timeout))


Policy = Enqueue | Reject | Interrupt | Rollback | Coalesce | Steer

POLICIES = (Enqueue, Reject, Interrupt, Rollback, Coalesce, Steer)


def policy_from_setting(setting: Policy | str) -> Policy:
    """Return the policy a setting names: an instance as it is, or the name of a class in small letters.

    Raises:
        ValueError: there is no such policy.
    """
    if isinstance(setting, POLICIES):
        return setting
    for policy in POLICIES:
        if setting == policy.__name__.lower():
            return policy()
    names = ", ".join(policy.__name__.lower() for policy in POLICIES)
    raise ValueError(f"not a policy: {setting!r}; use one of {names} or an instance")


# The argument is a Connection; Any lets users annotate theirs with the request class of their framework.
PolicyChoice = Callable[[Any], Policy | str | Awaitable[Policy | str | None] | None]
"""Any sync or async callable of the connection that returns the policy of a request, or None for the default."""


@dataclass(frozen=True, slots=True)
class PolicyHeader:
    """See `from_header`. `ends_others` names the allowed policies that end other turns."""

    name: bytes
    param: str
    allowed: Mapping[str, Policy]

    @property
    def ends_others(self) -> tuple[str, ...]:
        """Return the names of the allowed policies that end the running turn: those that have a grace for it."""
        return tuple(name for name, policy in self.allowed.items() if hasattr(policy, "grace"))

    def __call__(self, connection: Any) -> Policy | None:
        """Return the policy that a request names, None where it names none.

        Raises:
            PolicyNotAllowed: it names another than the allowed ones, or several.
        """
        pairs: Iterable[tuple[bytes, bytes]] = connection.scope.get("headers", ())
        named = {value.strip().lower() for name, value in pairs if name == self.name} - {b""}
        if not named:
            return None
        policy = self.allowed.get(named.pop().decode("latin-1"))
        if policy is None or named:
            reason = "it is given more than once" if named else "it is not allowed"
            raise PolicyNotAllowed(self.param, reason=f"{reason}; use one of {', '.join(self.allowed)}")
        return policy


def from_header(name: str, *, allow: Iterable[str] | Mapping[str, Policy | str]) -> PolicyHeader:
    """Let each request choose its policy by the header `name`: `policy=policies.from_header("x-turnlane-policy", ...)`.

    A request without the header has the lanes' own policy. One that names another than the allowed policies is refused
    (422 `policy_not_allowed`), never served under a policy it did not ask for.

    Policies that end other turns (interrupt, rollback) need a middleware whose keys are scoped to a principal
    (`keys.scoped_by`) and that takes no `session_id`: it raises `ValueError` otherwise, with `trusted_keys=True` too.

    Args:
        name: of the header; its value is the name of a policy, in any case.
        allow: the names of the policies a client may choose, or a mapping from the names clients use to policies, such
            as `{"enqueue": Enqueue(max_waiting=5), "stop": Interrupt(grace=1)}`.

    Raises:
        ValueError: `name` is not the name of a header, or `allow` is empty or names a policy that there is not.
    """
    if not isinstance(name, str) or not HEADER_NAME.fullmatch(name):
        raise ValueError(f"not the name of a header: {name!r}")
    return PolicyHeader(name.lower().encode("ascii"), f"header {name.lower()}", MappingProxyType(_allowed(allow)))


def _allowed(allow: Iterable[str] | Mapping[str, Policy | str]) -> dict[str, Policy]:
    if not isinstance(allow, Iterable) or isinstance(allow, str | bytes):
        raise ValueError(f"allow must be names of policies, or a mapping from names to policies, not {allow!r}")
    pairs: list[tuple[str, Policy | str]] = [(name, name) for name in allow]
    if isinstance(allow, Mapping):
        pairs = list(cast("Mapping[str, Policy | str]", allow).items())
    if not pairs or not all(isinstance(name, str) and HEADER_NAME.fullmatch(name) for name, _ in pairs):
        raise ValueError(f"allow must name one or more policies, each in one word, not {allow!r}")
    return {name.lower(): policy_from_setting(policy) for name, policy in pairs}
