"""When a session is stale."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions.helpers import T0
from turnlane.sessions import Freshness
from turnlane.sessions.entry import SessionEntry, minted, rebound

VIENNA = ZoneInfo("Europe/Vienna")
ZONES = ("UTC", "Europe/Vienna", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "America/Havana")


def at(text: str, zone: ZoneInfo = VIENNA, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def entry(created: float, active: float | None = None) -> SessionEntry:
    made = minted("k", "id", at=created, version=1)
    return made if active is None else made.active(active)


@pytest.mark.parametrize("idle", [600, 600.0, timedelta(minutes=10)])
def test_idle_counts_from_the_last_activity(idle: float | timedelta) -> None:
    """Stale exactly when the limit is reached, in seconds or as a timedelta."""
    fresh = Freshness(idle=idle)
    assert not fresh.is_stale(entry(T0, T0 + 100), T0 + 699.999)
    assert fresh.is_stale(entry(T0, T0 + 100), T0 + 700)


def test_a_clock_that_was_set_back_keeps_the_conversation() -> None:
    """Activity in the future is not idle, and an id minted in the future is not of yesterday."""
    both = Freshness(idle=600, daily_at=time(4), timezone="UTC")
    assert not both.is_stale(entry(T0), T0 - 10 * 86_400)


def test_daily_counts_from_when_the_id_was_minted() -> None:
    """Activity does not carry a session over the daily moment; a new id does."""
    daily = Freshness(daily_at=time(4), timezone=VIENNA)
    old = entry(at("2026-03-03T03:59"), at("2026-03-03T04:30"))
    assert not daily.is_stale(old, at("2026-03-03T03:59:59"))
    assert daily.is_stale(old, at("2026-03-03T04:00"))
    assert not daily.is_stale(rebound(old, "new", at=at("2026-03-03T04:00")), at("2026-03-04T03:59"))
    assert daily.is_stale(rebound(old, "new", at=at("2026-03-03T04:00")), at("2026-03-04T04:00"))


def test_whichever_runs_out_first_decides() -> None:
    """Both clocks at once."""
    both = Freshness(idle=3600, daily_at=time(4), timezone=VIENNA)
    assert both.is_stale(entry(at("2026-03-03T03:59")), at("2026-03-03T04:01"))
    assert both.is_stale(entry(at("2026-03-03T04:01")), at("2026-03-03T05:01"))
    assert not both.is_stale(entry(at("2026-03-03T04:01")), at("2026-03-03T05:00"))


def test_without_a_limit_nothing_is_stale() -> None:
    """`Freshness()` is for ever."""
    assert not Freshness().is_stale(entry(0.0), T0)


def test_a_time_that_is_skipped_counts_once() -> None:
    """On the day clocks go forward over it, 02:30 is at 03:30 summer time."""
    daily = Freshness(daily_at=time(2, 30), timezone=VIENNA)
    before = entry(at("2026-03-29T01:59"))
    assert not daily.is_stale(before, at("2026-03-29T03:29"))
    assert daily.is_stale(before, at("2026-03-29T03:30"))
    assert not daily.is_stale(entry(at("2026-03-29T03:30")), at("2026-03-30T02:29"))


def test_a_time_that_comes_twice_counts_the_first_time() -> None:
    """On the day clocks go back over it, a session minted between the two 02:30 lives until tomorrow."""
    daily = Freshness(daily_at=time(2, 30), timezone=VIENNA)
    first, second = at("2026-10-25T02:30"), at("2026-10-25T02:30", fold=1)
    assert second - first == 3600
    assert daily.is_stale(entry(first - 1), first)
    assert not daily.is_stale(entry(first + 60), second + 60)
    assert daily.is_stale(entry(first + 60), at("2026-10-26T02:30"))


def test_the_machine_zone_is_the_default() -> None:
    """Without a time zone the daily moment is meant as the machine's clock shows it."""
    daily_at = time(4)
    moment = Freshness(daily_at=daily_at).last_daily_moment(daily_at, T0)
    assert datetime.fromtimestamp(moment).time() == daily_at  # noqa: DTZ006  local time is what is tested
    assert 0 <= T0 - moment < 86_400


@given(
    zone=st.sampled_from(ZONES),
    daily_at=st.times().map(lambda moment: moment.replace(microsecond=0)),
    now=st.integers(min_value=0, max_value=2_000_000_000),
    later=st.integers(min_value=0, max_value=3 * 86_400),
)
def test_the_daily_moment_never_goes_back_and_never_waits_two_days(
    zone: str, daily_at: time, now: int, later: int
) -> None:
    """In every zone and over every change of clocks: not after now, monotone, and at most a day and a bit ago."""
    daily = Freshness(daily_at=daily_at, timezone=zone)
    moment = daily.last_daily_moment(daily_at, now)
    assert now - 2 * 86_400 < moment <= now
    assert moment <= daily.last_daily_moment(daily_at, now + later)


@pytest.mark.parametrize("idle", [0, -1, float("nan"), float("inf"), timedelta(0), True])
def test_an_idle_limit_must_be_greater_than_zero(idle: float | timedelta) -> None:
    """A limit that makes everything stale, or that is none, is a mistake."""
    with pytest.raises(ValueError, match="idle"):
        Freshness(idle=idle)


def test_a_zone_must_be_known_and_belongs_in_timezone() -> None:
    """A misspelt zone and a time that carries one are refused at construction."""
    with pytest.raises(ValueError, match="timezone is not known on this machine: 'Europe/Wien'"):
        Freshness(daily_at=time(4), timezone="Europe/Wien")
    with pytest.raises(ValueError, match="timezone"):
        Freshness(daily_at=time(4), timezone="../etc/passwd")
    with pytest.raises(ValueError, match="daily_at must have no time zone of its own"):
        Freshness(daily_at=time(4, tzinfo=VIENNA))
