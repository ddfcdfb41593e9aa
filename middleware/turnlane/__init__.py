"""turnlane: agent servers that stay right when two messages of one conversation arrive at once."""

from turnlane import errors, hooks, keys
from turnlane.asgi import KeepAlive, LaneMiddleware
from turnlane.lanes import Lanes
from turnlane.policies import Coalesce, Enqueue, Interrupt, Reject, Rollback, Steer
from turnlane.runtime import Runtime
from turnlane.sessions import Sessions
from turnlane.transcripts import TranscriptMonitor, Transcripts
from turnlane.turns import Turn, current_turn

__all__ = (
    "Coalesce",
    "Enqueue",
    "Interrupt",
    "KeepAlive",
    "LaneMiddleware",
    "Lanes",
    "Reject",
    "Rollback",
    "Runtime",
    "Sessions",
    "Steer",
    "TranscriptMonitor",
    "Transcripts",
    "Turn",
    "current_turn",
    "errors",
    "hooks",
    "keys",
)
