"""What the lanes log during a run."""

import logging
from types import TracebackType
from typing import Self

__all__ = ("HeardLog",)

ALLOWED = frozenset({"engine_unavailable", "lane_lost", "lanes_not_renewed", "lane_not_left", "engine_not_told"})
"""What may be said where steps fail."""

EVER = frozenset({"result_not_shared"})


class HeardLog(logging.Handler):
    """Hears what the lanes warn of, inside its block, in the place of everybody else.

    Mutable: `heard`.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []
        self._logger = logging.getLogger("turnlane")
        self._propagates = True

    def __enter__(self) -> Self:
        self._propagates, self._logger.propagate = self._logger.propagate, False
        self._logger.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagates

    def emit(self, record: logging.LogRecord) -> None:
        """Hear one."""
        self.heard.append(record.getMessage() + ("" if record.exc_info is None else f" {record.exc_info[1]!r}"))

    def unexpected(self, *, failing: bool) -> list[str]:
        """Return what should not have been said."""
        allowed = EVER | ALLOWED if failing else EVER
        return [f"logged: {line}" for line in self.heard if line.split()[0] not in allowed]
