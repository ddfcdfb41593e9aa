"""How long a client waits for its answer: nobody stands in line for longer."""

import math
from dataclasses import replace

from starlette.types import Scope

from turnlane.keys import raw_headers
from turnlane.policies import Policy, Reject

__all__ = ("bounded_by_client",)

# Seconds. The Python clients of OpenAI and Anthropic send the first, those for Node the second where one is set.
DEADLINES = frozenset({b"x-stainless-read-timeout", b"x-stainless-timeout"})
STEP = 0.1  # what has passed counts in steps: who waits equally long shares a timer


def bounded_by_client(policy: Policy, scope: Scope, *, passed: float = 0.0) -> Policy:
    """Return the policy with a `wait_timeout` that does not end after the client has given up.

    The shortest deadline counts; what is no positive number of seconds is passed over.

    Args:
        policy: what the request would wait by.
        scope: of the request.
        passed: seconds since the request arrived.
    """
    if isinstance(policy, Reject):
        return policy
    deadline = min((_seconds(value) for name, value in raw_headers(scope) if name in DEADLINES), default=math.inf)
    if deadline == math.inf:
        return policy
    left = max(deadline - math.floor(passed / STEP) * STEP, 0.0)
    return replace(policy, wait_timeout=left) if _is_shorter(left, policy.wait_timeout) else policy


def _is_shorter(seconds: float, limit: float | None) -> bool:
    return limit is None or seconds < limit


def _seconds(value: bytes) -> float:
    try:
        seconds = float(value)
    except ValueError:
        return math.inf
    return seconds if seconds > 0 else math.inf
