"""What a request is asked besides its key: which policy it wants, and which call chain it was made in."""

from inspect import isawaitable

from turnlane.asgi.connection import LaneConnection
from turnlane.asgi.settings import Settings
from turnlane.keys import raw_headers
from turnlane.policies import Policy, policy_from_setting
from turnlane.turns.chain import BroughtChain, read_chain

__all__ = ("chain_brought", "chosen_policy")


async def chosen_policy(settings: Settings, connection: LaneConnection) -> Policy:
    """Return the policy of one request.

    Raises:
        PolicyNotAllowed: the request asks for one it may not choose.
        ValueError: the callable of the settings returned what is no policy, or `Rollback` where that is not possible.
    """
    if settings.choose_policy is None:
        return settings.policy
    found = settings.choose_policy(connection)
    if isawaitable(found):
        found = await found
    policy = settings.policy if found is None else policy_from_setting(found)
    settings.runtime.require_possible(policy)
    return policy


async def chain_brought(settings: Settings, connection: LaneConnection) -> BroughtChain | None:
    """Return the call chain a request brought, or None.

    Whether it is trusted is only asked where something hangs on it: where it names a turn that runs here.
    """
    brought = read_chain(raw_headers(connection.scope))
    if brought is None or settings.trust_chain is False or not brought.callers(settings.runtime.lanes.gate):
        return brought
    trusted = settings.trust_chain if isinstance(settings.trust_chain, bool) else settings.trust_chain(connection)
    brought.trusted = bool(await trusted) if isawaitable(trusted) else bool(trusted)
    return brought
