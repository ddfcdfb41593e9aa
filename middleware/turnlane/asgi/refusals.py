"""The one table that turns errors into responses.

A refusal is an `application/problem+json` document (RFC 9457) with an extra member `error`, which is where the OpenAI
and the Anthropic clients look. It never tells the session key or who holds the lane: the log and the hooks do.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.types import Message

from turnlane import errors

__all__ = ("REFUSED", "Refusal", "document_of", "refusal_of", "response_of", "retry_after")

REFUSED = (
    errors.LaneError,
    errors.RequestRefused,
    errors.SessionError,
    errors.TranscriptError,
    errors.DuplicatesUnavailable,
)
"""The errors that become a response."""

UNKNOWN_WAIT = 5
LONGEST_WAIT = 60  # clients in use ignore a longer Retry-After, or give up at once


@dataclass(frozen=True, slots=True)
class Refusal:
    """How one error is answered. `kind` is the word clients know the error's family by."""

    error: type[errors.TurnlaneError]
    status: int
    code: str
    kind: str
    detail: str
    retry: bool = False


# The first row whose class fits counts. Those who may try again are told when, all others are told not to.
TABLE = (
    Refusal(
        errors.LaneBusy,
        409,
        "lane_busy",
        "conflict_error",
        "another message of this conversation is being answered",
        retry=True,
    ),
    Refusal(
        errors.LaneFull,
        429,
        "lane_full",
        "rate_limit_error",
        "too many messages of this conversation are waiting",
        retry=True,
    ),
    Refusal(
        errors.WaitTimeout,
        503,
        "wait_timeout",
        "overloaded_error",
        "this message waited too long for the ones before it",
        retry=True,
    ),
    Refusal(
        errors.LanesDraining, 503, "draining", "overloaded_error", "this server is shutting down; try again", retry=True
    ),
    Refusal(
        errors.PrincipalCapacityExceeded,
        429,
        "principal_capacity",
        "rate_limit_error",
        "too many messages of yours are waiting or being answered",
        retry=True,
    ),
    Refusal(
        errors.CapacityExceeded,
        503,
        "capacity",
        "overloaded_error",
        "this server has no room for another message now",
        retry=True,
    ),
    Refusal(
        errors.EngineUnavailable,
        503,
        "engine_unavailable",
        "overloaded_error",
        "this message could not get its turn now: the place where turns are kept can not be reached",
        retry=True,
    ),
    Refusal(
        errors.TurnInterrupted,
        409,
        "turn_interrupted",
        "conflict_error",
        "a newer message of this conversation took the place of this one",
    ),
    Refusal(
        errors.TurnCoalesced,
        409,
        "turn_coalesced",
        "conflict_error",
        "this message is answered together with a newer one of this conversation",
    ),
    Refusal(
        errors.TurnSteered,
        409,
        "turn_steered",
        "conflict_error",
        "this message was taken into the answer that was being given",
    ),
    Refusal(
        errors.LaneReentry,
        409,
        "lane_reentry",
        "conflict_error",
        "this message was sent from inside the turn it would have to wait for",
    ),
    Refusal(
        errors.CallChainTooLong,
        409,
        "call_chain_too_long",
        "conflict_error",
        "answering this message took more agents that call each other than may be",
    ),
    Refusal(errors.TurnTimeout, 504, "turn_timeout", "timeout_error", "answering this message took longer than it may"),
    Refusal(
        errors.ConsumerIdle, 504, "consumer_idle", "timeout_error", "the reply was not read for longer than it may"
    ),
    Refusal(
        errors.SessionKeyRequired,
        400,
        "session_key_required",
        "invalid_request_error",
        "this request must name its session",
    ),
    Refusal(
        errors.SessionKeyInvalid,
        422,
        "session_key_invalid",
        "invalid_request_error",
        "the session key of this request is not valid",
    ),
    Refusal(
        errors.PolicyNotAllowed,
        422,
        "policy_not_allowed",
        "invalid_request_error",
        "this request may not choose its policy like this",
    ),
    Refusal(
        errors.BodyTooLarge,
        413,
        "body_too_large",
        "invalid_request_error",
        "the body of this request is too large to find its session key in",
    ),
    Refusal(
        errors.IdempotencyKeyInvalid,
        400,
        "idempotency_key_invalid",
        "invalid_request_error",
        "the idempotency key of this request is not valid",
    ),
    Refusal(
        errors.IdempotencyKeyReused,
        422,
        "idempotency_key_reused",
        "invalid_request_error",
        "another message had this idempotency key; this one needs one of its own",
    ),
    Refusal(
        errors.MessageTooLarge,
        413,
        "message_too_large",
        "invalid_request_error",
        "the body of this request is too large for an idempotency key",
    ),
    Refusal(
        errors.DuplicateRunning,
        409,
        "duplicate_running",
        "conflict_error",
        "this message has arrived before and is being answered",
        retry=True,
    ),
    Refusal(
        errors.DuplicateOfStream,
        409,
        "duplicate_stream",
        "conflict_error",
        "this message has arrived before, and its answer was a stream, which is not sent again",
    ),
    Refusal(
        errors.DuplicateNotKept,
        409,
        "duplicate_not_kept",
        "conflict_error",
        "this message was answered before; its answer could not be kept, and it is not run again",
    ),
    Refusal(
        errors.DuplicateOutcomeUnknown,
        409,
        "duplicate_outcome_unknown",
        "conflict_error",
        "this message was run before, wholly or in part, without an answer; it is not run again",
    ),
    Refusal(
        errors.DuplicatesUnavailable,
        503,
        "duplicates_unavailable",
        "overloaded_error",
        "it can not be told now whether this message has arrived before",
        retry=True,
    ),
    Refusal(
        errors.SessionConflict,
        409,
        "session_conflict",
        "conflict_error",
        "the session was changed while this message was answered",
    ),
    Refusal(
        errors.SessionStoreUnavailable,
        503,
        "session_store_unavailable",
        "overloaded_error",
        "the session of this conversation can not be reached now",
        retry=True,
    ),
    Refusal(
        errors.SessionOutcomeUnknown,
        503,
        "session_outcome_unknown",
        "overloaded_error",
        "it is not known whether what this message asked for was done",
    ),
    Refusal(
        errors.OutcomeUnknown,
        503,
        "outcome_unknown",
        "overloaded_error",
        "it is not known whether what this message asked for was done",
    ),
    Refusal(
        errors.SessionCorrupt,
        500,
        "session_corrupt",
        "api_error",
        "the session of this conversation is damaged; its operator has to mend it",
    ),
    Refusal(
        errors.TranscriptTakeover,
        409,
        "transcript_takeover",
        "conflict_error",
        "the transcript of this conversation was changed by somebody who does not own it; "
        "what was to be stored is kept",
    ),
    Refusal(
        errors.StaleTurn,
        409,
        "stale_turn",
        "conflict_error",
        "a newer turn of this conversation has begun to write; what was to be stored is kept",
    ),
    Refusal(
        errors.TranscriptBusy,
        503,
        "transcript_busy",
        "overloaded_error",
        "the transcript of this conversation is being written by somebody else",
        retry=True,
    ),
    Refusal(
        errors.TranscriptReentry,
        409,
        "transcript_reentry",
        "conflict_error",
        "this message would have to wait for the transcript it holds open itself",
    ),
    Refusal(
        errors.TranscriptUnavailable,
        503,
        "transcript_unavailable",
        "overloaded_error",
        "the transcript of this conversation can not be reached now",
        retry=True,
    ),
    Refusal(
        errors.TranscriptCorrupt,
        500,
        "transcript_corrupt",
        "api_error",
        "the transcript of this conversation is damaged; its operator has to mend it",
    ),
    Refusal(
        errors.TranscriptError,
        500,
        "transcript_error",
        "api_error",
        "the transcript of this conversation can not be used",
    ),
    Refusal(errors.LaneError, 500, "lane_error", "api_error", "this message could not get its turn"),
    Refusal(errors.SessionError, 500, "session_error", "api_error", "the session of this conversation can not be used"),
    Refusal(errors.RequestRefused, 400, "request_refused", "invalid_request_error", "this request is not acceptable"),
)

LOST = Refusal(
    errors.EngineUnavailable,
    503,
    "lane_lost",
    "overloaded_error",
    "answering this message was broken off: its turn may not be the only one any more",
)
"""That of a turn which had begun: it may have done something, so it is not asked for again."""


def refusal_of(error: BaseException) -> Refusal:
    """Return the row for an error of `REFUSED`."""
    if isinstance(error, errors.EngineUnavailable) and error.turn is not None:
        return LOST
    return next(row for row in TABLE if isinstance(error, row.error))


def document_of(error: BaseException, status: int | None = None) -> dict[str, Any]:
    """Return the problem document for an error of `REFUSED`; `status` takes the place of the one in the table."""
    row = refusal_of(error)
    status = row.status if status is None else status
    param = getattr(error, "param", None)
    told = (errors.SessionKeyInvalid, errors.PolicyNotAllowed, errors.IdempotencyKeyInvalid)
    reason = getattr(error, "reason", None) if isinstance(error, told) else None
    detail = row.detail if param is None else f"{row.detail} ({param}{f': {reason}' if reason else ''})"
    if isinstance(error, errors.TranscriptTakeover) and error.remedy:
        # Where on the server the file is, is for its log to know.
        detail += f"; its operator settles it by: turnlane repair --adopt {os.path.basename(error.path)}"
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "error": {"message": detail, "type": row.kind, "param": param, "code": row.code},
    }
    if isinstance(error, errors.TurnInterrupted | errors.TurnRedirected):
        # In `error` too: of an error in a stream the OpenAI client shows that member and no other.
        document["into"] = document["error"]["into"] = error.into
    return document


def response_of(
    error: BaseException, *, expected_wait: Callable[[int], float], redirect_status: int = 409
) -> tuple[Message, Message]:
    """Return the two messages that answer an error of `REFUSED`.

    Args:
        error: what to answer.
        expected_wait: estimates the seconds until so many turns have ended; infinite where it can not.
        redirect_status: for a message that another turn answers.
    """
    row = refusal_of(error)
    status = redirect_status if isinstance(error, errors.TurnRedirected) else row.status
    body = json.dumps(document_of(error, status), ensure_ascii=False).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if row.retry:
        headers.append((b"retry-after", b"%d" % retry_after(error, expected_wait)))
    else:
        headers.append((b"x-should-retry", b"false"))
    start = {"type": "http.response.start", "status": status, "headers": headers}
    return start, {"type": "http.response.body", "body": body, "more_body": False}


def retry_after(error: BaseException, expected_wait: Callable[[int], float]) -> int:
    """Return the whole seconds, 1 to 60, after which trying again is likely to help."""
    ahead = getattr(error, "ahead", None) or getattr(error, "waiting", None) or 1
    seconds = expected_wait(ahead)
    return UNKNOWN_WAIT if not math.isfinite(seconds) else min(max(math.ceil(seconds), 1), LONGEST_WAIT)
