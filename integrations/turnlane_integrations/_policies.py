"""What is done with messages that meet, where a framework's run answers one of them."""

from turnlane import Runtime
from turnlane.policies import Coalesce, Policy, Steer, policy_from_setting

__all__ = ("one_by_one",)


def one_by_one(runtime: Runtime, policy: Policy | str | None) -> Policy:
    """Return the policy of turns, each of which is for the message of one run.

    Args:
        runtime: whose lanes say it, where nobody else does.
        policy: as its user gave it.

    Raises:
        ValueError: there is no such policy, or it makes one turn of several messages: that run would be given one.
    """
    chosen = runtime.lanes.policy if policy is None else policy_from_setting(policy)
    if isinstance(chosen, Coalesce | Steer):
        raise ValueError(f"runs are not made one of several, as by {chosen!r}: say another policy=")
    return chosen
