"""turnlane: agent servers that stay right when two messages of one conversation arrive at once."""

from turnlane import errors, hooks, keys
from turnlane.lanes import Lanes
from turnlane.policies import Enqueue, Interrupt, Reject
from turnlane.sessions import Sessions
from turnlane.turns import Turn, current_turn

__all__ = (
    "Enqueue",
    "Interrupt",
    "Lanes",
    "Reject",
    "Sessions",
    "Turn",
    "current_turn",
    "errors",
    "hooks",
    "keys",
)
