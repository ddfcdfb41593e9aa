"""claude-agent-sdk: turns of a session one after the other, and the program's own session file behind a fence.

    agent = LaneAgent(runtime, state_dir="/var/lib/turnlane/claude")
    async for message in agent.query(prompt=text, options=ClaudeAgentOptions(session_id=session)):  # was query(...)
        ...

Needs `turnlane[claude-agent-sdk]`. The modules `chain`, `fence` and `place` import none of it.
"""

from turnlane_integrations._needs import missing as _missing

try:
    from turnlane_integrations.claude_agent_sdk.agent import LaneAgent
    from turnlane_integrations.claude_agent_sdk.chain import Fork, forks, leaf_of
    from turnlane_integrations.claude_agent_sdk.fence import SessionForked
    from turnlane_integrations.claude_agent_sdk.place import session_file
except ImportError as _error:
    raise _missing("claude-agent-sdk", "claude-agent-sdk", _error) from _error

__all__ = ("Fork", "LaneAgent", "SessionForked", "forks", "leaf_of", "session_file")
