"""When a session is stale, so that the next resolve mints a new session id."""

import math
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from turnlane.arguments import optional_seconds
from turnlane.sessions.entry import SessionEntry

__all__ = ("Freshness",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Two clocks that make a session stale; whichever runs out first decides.

    `idle` counts from the last activity: the end of the last turn (`Sessions.touch`), or the minting of the id.
    `daily_at` makes stale what was minted before the latest such time of day. Patches are not activity and do not
    count for either. A day has exactly one daily moment, also when the clocks change: a time that is skipped counts
    by the offset before the change, one that comes twice counts the first time.

    Not guaranteed: anything finer than the wall clock. A clock that is set back makes nothing stale, it keeps the
    conversation; one that is set forward is believed.

    Args:
        idle: seconds or a timedelta, greater than 0; None for no limit.
        daily_at: a time of day without a time zone of its own; None for no daily moment.
        timezone: a tzinfo or the name of one ("Europe/Vienna") that `daily_at` is meant in; None for the machine's.

    Raises:
        ValueError: `idle` is not greater than 0, `daily_at` has a time zone, or `timezone` is not known.
    """

    idle: timedelta | float | None = None
    daily_at: time | None = None
    timezone: tzinfo | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "idle", _seconds(self.idle))
        object.__setattr__(self, "timezone", _zone(self.timezone))
        if self.daily_at is not None and not isinstance(self.daily_at, time):
            raise ValueError(f"daily_at must be a datetime.time or None, not {self.daily_at!r}")
        if self.daily_at is not None and self.daily_at.tzinfo is not None:
            raise ValueError(f"daily_at must have no time zone of its own, give timezone= instead: {self.daily_at!r}")

    def is_stale(self, entry: SessionEntry, now: float) -> bool:
        """Tell whether `entry` is stale at `now`, in seconds since the epoch."""
        if isinstance(self.idle, float) and now - entry.last_activity_at >= self.idle:
            return True
        return self.daily_at is not None and entry.created_at < self.last_daily_moment(self.daily_at, now)

    def last_daily_moment(self, daily_at: time, now: float) -> float:
        """Return the latest moment not after `now` at which it was `daily_at`, in seconds since the epoch."""
        zone = self.timezone if isinstance(self.timezone, tzinfo) else None
        today = datetime.fromtimestamp(now, zone).date()
        # Tomorrow too: where clocks go back over midnight, the date of now can be behind a moment that has been.
        moments = (_moment(today, days, daily_at, zone) for days in (1, 0, -1, -2))
        return next((moment for moment in moments if moment <= now), now)


def _moment(day: date, days: int, daily_at: time, zone: tzinfo | None) -> float:
    # A naive datetime is the machine's local time to timestamp().
    return datetime.combine(day + timedelta(days=days), daily_at.replace(fold=0), tzinfo=zone).timestamp()


def _seconds(idle: timedelta | float | None) -> float | None:
    found = optional_seconds("idle", idle.total_seconds() if isinstance(idle, timedelta) else idle, above_zero=True)
    if found == math.inf:
        raise ValueError("idle must be a finite number of seconds; None is no limit")
    return found


def _zone(timezone: tzinfo | str | None) -> tzinfo | None:
    if timezone is None or isinstance(timezone, tzinfo):
        return timezone
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"timezone is not known on this machine: {timezone!r}") from error
