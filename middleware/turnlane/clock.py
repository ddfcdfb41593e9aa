"""The only reader of time.

Everything that needs the time is given a `Clock`. `turnlane.testing.ManualClock` is one that tests move by hand.
"""

import time
from typing import TYPE_CHECKING

__all__ = ("Clock",)


class Clock:
    """Reads the clocks of the machine.

    `wall_ns()` is nanoseconds since the epoch. It may step: it names moments for people and seeds tokens, which never
    go back with it. `monotonic()` is seconds from an arbitrary point, never goes back and measures durations.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def wall_ns(self) -> int:
            """Nanoseconds since the epoch."""
            ...

        def monotonic(self) -> float:
            """Seconds from an arbitrary point."""
            ...

    else:
        # The functions themselves, not methods around them: each request reads one.
        wall_ns = staticmethod(time.time_ns)
        monotonic = staticmethod(time.monotonic)

    def wall(self) -> float:
        """Seconds since the epoch."""
        return self.wall_ns() / 1e9
