"""The error tree.

Every error carries its facts as attributes, pickles, and prints one line that says which guard
refused, about what, and what settles it. Turning an error into an HTTP response happens in
`turnlane.asgi.refusals`, nowhere else.
"""

from turnlane.errors._base import (
    NotConfigured,
    TurnlaneError,
)
from turnlane.errors._engines import (
    EngineUnavailable,
    OutcomeUnknown,
)
from turnlane.errors._lanes import (
    CallChainTooLong,
    CapacityExceeded,
    ConsumerIdle,
    LaneBusy,
    LaneError,
    LaneFull,
    LaneReentry,
    LanesDraining,
    PrincipalCapacityExceeded,
    TurnCoalesced,
    TurnInterrupted,
    TurnRedirected,
    TurnSteered,
    TurnTimeout,
    WaitTimeout,
)
from turnlane.errors._requests import (
    BodyTooLarge,
    DuplicateMessage,
    DuplicateNotKept,
    DuplicateOfStream,
    DuplicateOutcomeUnknown,
    DuplicateRunning,
    DuplicatesUnavailable,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    MessageTooLarge,
    PolicyNotAllowed,
    RequestRefused,
    SessionKeyInvalid,
    SessionKeyRequired,
)
from turnlane.errors._sessions import (
    SessionConflict,
    SessionCorrupt,
    SessionError,
    SessionOutcomeUnknown,
    SessionStoreUnavailable,
)
from turnlane.errors._transcripts import (
    StaleTurn,
    TranscriptBusy,
    TranscriptCorrupt,
    TranscriptError,
    TranscriptReentry,
    TranscriptTakeover,
    TranscriptUnavailable,
)

__all__ = (
    "BodyTooLarge",
    "CallChainTooLong",
    "CapacityExceeded",
    "ConsumerIdle",
    "DuplicateMessage",
    "DuplicateNotKept",
    "DuplicateOfStream",
    "DuplicateOutcomeUnknown",
    "DuplicateRunning",
    "DuplicatesUnavailable",
    "EngineUnavailable",
    "IdempotencyKeyInvalid",
    "IdempotencyKeyReused",
    "LaneBusy",
    "LaneError",
    "LaneFull",
    "LaneReentry",
    "LanesDraining",
    "MessageTooLarge",
    "NotConfigured",
    "OutcomeUnknown",
    "PolicyNotAllowed",
    "PrincipalCapacityExceeded",
    "RequestRefused",
    "SessionConflict",
    "SessionCorrupt",
    "SessionError",
    "SessionKeyInvalid",
    "SessionKeyRequired",
    "SessionOutcomeUnknown",
    "SessionStoreUnavailable",
    "StaleTurn",
    "TranscriptBusy",
    "TranscriptCorrupt",
    "TranscriptError",
    "TranscriptReentry",
    "TranscriptTakeover",
    "TranscriptUnavailable",
    "TurnCoalesced",
    "TurnInterrupted",
    "TurnRedirected",
    "TurnSteered",
    "TurnTimeout",
    "TurnlaneError",
    "WaitTimeout",
)
