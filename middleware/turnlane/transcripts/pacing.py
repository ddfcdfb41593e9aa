"""How much of a core background work may take."""

import threading
from collections.abc import Callable

__all__ = ("Pace", "Stopped")

AT_ONCE = 0.01  # seconds of work between two rests: many short ones cost more than they spare


class Stopped(Exception):
    """Whoever works in the background is to end."""


class Pace:
    """Makes work in a thread rest so long that it takes no more than its share of a core.

    Mutable: `share`, and `_since`, when the work went on after the last rest.

    Args:
        share: of a core, above 0 to 1.
        stop: ends it when set.
        monotonic: reads a clock, in seconds.
    """

    __slots__ = ("_monotonic", "_since", "_stop", "share")

    def __init__(self, share: float, stop: threading.Event, monotonic: Callable[[], float]) -> None:
        self.share: float = share
        self._stop = stop
        self._monotonic = monotonic
        self._since = monotonic()

    def begin(self) -> None:
        """Begin to work after a while without."""
        self._since = self._monotonic()

    def rest(self) -> None:
        """Rest, if there was work enough.

        Raises:
            Stopped: it was stopped.
        """
        worked = self._monotonic() - self._since
        if worked >= AT_ONCE and self.share < 1:
            self._stop.wait(worked / self.share - worked)
            self._since = self._monotonic()
        if self._stop.is_set():
            raise Stopped
