"""A clock that tests move by hand."""

from turnlane.clock import Clock

__all__ = ("ManualClock",)


class ManualClock(Clock):
    """Stands still until it is told to move.

    Give it to whatever takes a `clock`. `advance` lets time pass on both clocks; `step_wall` sets the wall clock
    alone, as an operator or a time server does.

    Not moved by it: timers of the event loop, which run on the loop's own clock.

    Mutable: `_wall_ns` and `_monotonic_ns`, both in nanoseconds, so that many small steps add up exactly.

    Args:
        wall: where the wall clock stands, in seconds since the epoch.
        monotonic: where the monotonic clock stands, in seconds.
    """

    __slots__ = ("_monotonic_ns", "_wall_ns")

    def __init__(self, *, wall: float = 1_700_000_000.0, monotonic: float = 1000.0) -> None:
        self._wall_ns = _nanoseconds(wall)
        self._monotonic_ns = _nanoseconds(monotonic)

    def __repr__(self) -> str:
        return f"<ManualClock wall={self._wall_ns / 1e9} monotonic={self._monotonic_ns / 1e9}>"

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return self._wall_ns

    def monotonic(self) -> float:
        """Seconds from an arbitrary point."""
        return self._monotonic_ns / 1e9

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks.

        Raises:
            ValueError: `seconds` is negative.
        """
        if not seconds >= 0:
            raise ValueError(f"time passes forwards; to step the wall clock back use step_wall: {seconds} s")
        self._wall_ns += _nanoseconds(seconds)
        self._monotonic_ns += _nanoseconds(seconds)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forwards, or back with a negative number, while no time passes."""
        self._wall_ns += _nanoseconds(seconds)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
