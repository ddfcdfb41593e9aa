"""What an engine, where lanes live that several processes share, can not do."""

from turnlane.errors._lanes import LaneError

__all__ = ("EngineUnavailable", "OutcomeUnknown")


class EngineUnavailable(LaneError, ConnectionError):
    """The engine could not be reached, or used: nothing was done. `key` names the lane, empty where none is meant.

    A running turn ends with it whose lease could not be renewed, or has ended while its process stood still: `turn` is
    its id then, and else None.
    """

    def __init__(self, where: str, *, operation: str, reason: str, key: str = "", turn: str | None = None) -> None:
        self.key = key
        self.turn: str | None = turn
        self.where: str = where
        self.operation: str = operation
        self.reason: str = reason
        super().__init__(f"engine {where} could not {operation}: {reason}")


class OutcomeUnknown(LaneError, ConnectionError):
    """The engine was asked, and did not say whether it has done it."""

    def __init__(self, where: str, *, operation: str, reason: str, key: str = "") -> None:
        self.key = key
        self.where: str = where
        self.operation: str = operation
        self.reason: str = reason
        super().__init__(f"engine {where} may or may not have been able to {operation}: {reason}")
