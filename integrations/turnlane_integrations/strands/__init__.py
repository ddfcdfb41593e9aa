"""strands-agents: invocations of one session one after the other, and repositories that a foreign write is found in.

    agents = LaneAgents(runtime, make_agent)                          # make_agent(session_id) -> strands.Agent
    result = await agents.invoke_async(session_id, "hello")           # instead of make_agent(...).invoke_async("hello")
    async for event in agents.stream_async(session_id, "hello"): ...

Needs `turnlane[strands]`.
"""

from turnlane_integrations._needs import missing as _missing

try:
    from turnlane_integrations.strands.agents import LaneAgents
    from turnlane_integrations.strands.fence import FencedRepository
    from turnlane_integrations.strands.refusal import SessionChanged
except ImportError as _error:
    raise _missing("strands-agents", "strands", _error) from _error

__all__ = ("FencedRepository", "LaneAgents", "SessionChanged")
