"""openai-agents: runs of one session one after the other, and sessions that a foreign write is found in.

    runner = LaneRunner(runtime)
    result = await runner.run(agent, "hello", session=session)          # instead of Runner.run
    async with runner.run_streamed(agent, "hello", session=session) as result:
        async for event in result.stream_events(): ...

Needs `turnlane[openai-agents]`.
"""

from turnlane_integrations._needs import missing as _missing

try:
    from turnlane_integrations.openai_agents.fence import FencedSession
    from turnlane_integrations.openai_agents.runner import LaneRunner
    from turnlane_integrations.openai_agents.session import TranscriptSession
except ImportError as _error:
    raise _missing("openai-agents", "openai-agents", _error) from _error

__all__ = ("FencedSession", "LaneRunner", "TranscriptSession")
