"""Which errors a policy may end a turn with."""

from races.plans import MergeRefused
from turnlane import Coalesce, Enqueue, Reject, Steer, errors
from turnlane.policies import Policy

__all__ = ("policy_allows",)


def policy_allows(policy: Policy, error: BaseException) -> bool:
    """Tell whether a turn with this policy may end with an error that its policy has to do with."""
    limit = policy.max_waiting if isinstance(policy, Enqueue | Coalesce | Steer) else None
    match error:
        case errors.LaneBusy():
            return isinstance(policy, Reject)
        case errors.LaneFull():
            return isinstance(policy, Coalesce) or limit is not None
        case errors.CapacityExceeded():
            return isinstance(policy, Reject) or limit is not None
        case errors.TurnCoalesced():
            return isinstance(policy, Coalesce)
        case errors.TurnSteered():
            return isinstance(policy, Steer)
        case errors.WaitTimeout():
            return error.wait_timeout == (None if isinstance(policy, Reject) else policy.wait_timeout)
        case MergeRefused():
            return isinstance(policy, Coalesce) and policy.merge is not tuple
        case _:
            return False
