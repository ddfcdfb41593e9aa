"""What is done with messages that meet, where a framework's run answers one of them."""

from turnlane import Runtime
from turnlane.policies import Coalesce, Policy, Rollback, Steer, policy_from_setting
from turnlane_integrations._checked import a_runtime

__all__ = ("one_by_one",)


def one_by_one(runtime: Runtime, policy: Policy | str | None, *, may_take_back: bool = False) -> Policy:
    """Return the policy of turns, each of which is for the message of one run.

    Args:
        runtime: whose lanes say it, where nobody else does.
        policy: as its user gave it.
        may_take_back: whether what a run stores may be in the transcript of its turn.

    Raises:
        ValueError: the runtime is none; or there is no such policy; or it makes one turn of several messages, and that
            run would be given one; or it is `Rollback`, which takes back what turns have written to their own
            transcripts, and here nothing.
    """
    chosen = a_runtime(runtime).lanes.policy if policy is None else policy_from_setting(policy)
    if isinstance(chosen, Coalesce | Steer) or (isinstance(chosen, Rollback) and not may_take_back):
        raise ValueError(f"runs are not made one of several, nor taken back, as by {chosen!r}: say another policy=")
    return chosen
