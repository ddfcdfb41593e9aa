"""What happens to a turn that finds its lane busy."""

from dataclasses import dataclass

__all__ = ("Enqueue", "Interrupt", "Policy", "Reject", "policy_from_setting")


def _require_seconds(name: str, value: float | None) -> None:
    if value is not None and not value >= 0:
        raise ValueError(f"{name} must be a number of seconds, at least 0, or None, not {value!r}")


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
        if self.max_waiting is not None and self.max_waiting < 0:
            raise ValueError(f"max_waiting must be at least 0 or None, not {self.max_waiting!r}")
        if self.hint_after is not None and self.hint_after < 1:
            raise ValueError(f"hint_after must be at least 1 or None, not {self.hint_after!r}")
        _require_seconds("wait_timeout", self.wait_timeout)


@dataclass(frozen=True, slots=True)
class Reject:
    """Do not wait: a busy lane is `LaneBusy` at once."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Take the place of the running turn and of everybody who waits.

    The running turn sees `turn.interrupted` at once; after `grace` seconds its task is cancelled, once.
    The arriving turn runs when the interrupted one has cleaned up, never beside it.

    Args:
        grace: seconds the running turn has to end by itself.
        wait_timeout: seconds the arriving turn waits for that before it gives up with `WaitTimeout`.
    """

    grace: float = 5.0
    wait_timeout: float | None = 300.0

    def __post_init__(self) -> None:
        if not self.grace >= 0:
            raise ValueError(f"grace must be a number of seconds, at least 0, not {self.grace!r}")
        _require_seconds("wait_timeout", self.wait_timeout)


Policy = Enqueue | Reject | Interrupt


def policy_from_setting(setting: Policy | str) -> Policy:
    """Return the policy a setting names: an instance as it is, or "enqueue", "reject", "interrupt".

    Raises:
        ValueError: there is no such policy.
    """
    if isinstance(setting, (Enqueue, Reject, Interrupt)):
        return setting
    names: dict[str, type[Enqueue | Reject | Interrupt]] = {
        "enqueue": Enqueue,
        "reject": Reject,
        "interrupt": Interrupt,
    }
    if not isinstance(setting, str) or setting not in names:
        raise ValueError(f"not a policy: {setting!r}; use one of {', '.join(names)} or an instance")
    return names[setting]()
