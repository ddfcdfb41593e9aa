"""agent-framework: runs of one session one after the other, and a history that a foreign write is found in.

    agent = Agent(client, context_providers=[history], middleware=[LaneAgentMiddleware(runtime)])
    await agent.run("hello", session=session)                           # as before
    async for update in agent.run("hello", session=session, stream=True): ...

Needs `turnlane[agent-framework]`.
"""

from turnlane_integrations._needs import missing as _missing

try:
    from turnlane_integrations.agent_framework.history import TranscriptHistoryProvider
    from turnlane_integrations.agent_framework.middleware import LaneAgentMiddleware, session_key
except ImportError as _error:
    raise _missing("agent-framework-core", "agent-framework", _error) from _error

__all__ = ("LaneAgentMiddleware", "TranscriptHistoryProvider", "session_key")
