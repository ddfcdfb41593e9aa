"""The only reader of time.

Everything that needs the time is given a `Clock`. `turnlane.testing.ManualClock` is one that tests move by hand.
"""

import time

__all__ = ("Clock",)


class Clock:
    """Reads the clocks of the machine.

    The wall clock may step: it names moments for people and seeds tokens, which never go back with it. The
    monotonic clock never goes back and measures durations.
    """

    __slots__ = ()

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds from an arbitrary point."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch."""
        return self.wall_ns() / 1e9
