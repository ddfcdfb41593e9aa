"""The clock that tests move by hand."""

import pytest

from turnlane.clock import Clock
from turnlane.testing import ManualClock


def test_stands_still_until_told() -> None:
    """Reading it does not move it."""
    clock = ManualClock(wall=1000.5, monotonic=7.0)
    assert [clock.wall_ns(), clock.wall_ns()] == [1_000_500_000_000] * 2
    assert (clock.wall(), clock.monotonic()) == (1000.5, 7.0)


def test_time_passes_on_both_clocks() -> None:
    """Many small steps add up without a rounding error."""
    clock = ManualClock(wall=1000.0, monotonic=0.0)
    for _ in range(1000):
        clock.advance(0.1)
    assert (clock.wall(), clock.monotonic()) == (1100.0, 100.0)


def test_the_wall_clock_may_step_alone() -> None:
    """Forwards and back, as an operator sets it."""
    clock = ManualClock(wall=1000.0, monotonic=7.0)
    clock.step_wall(-500)
    assert (clock.wall(), clock.monotonic()) == (500.0, 7.0)
    clock.step_wall(3600)
    assert (clock.wall(), clock.monotonic()) == (4100.0, 7.0)


@pytest.mark.parametrize("seconds", [-0.001, float("nan")])
def test_time_never_runs_backwards(seconds: float) -> None:
    """The monotonic clock keeps its promise."""
    with pytest.raises(ValueError, match="step_wall"):
        ManualClock().advance(seconds)


def test_replaces_the_real_clock() -> None:
    """A hot path may bind both readers once; they stay those of this clock."""
    clock: Clock = ManualClock(wall=1.0, monotonic=2.0)
    wall_ns, monotonic = clock.wall_ns, clock.monotonic
    assert isinstance(clock, ManualClock)
    clock.advance(1)
    assert (wall_ns(), monotonic()) == (2_000_000_000, 3.0)
