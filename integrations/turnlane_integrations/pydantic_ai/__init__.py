"""pydantic-ai: runs of a conversation one after the other, and a store for conversations that finds foreign writes.

    store = TranscriptConversationStore(Transcripts("sqlite:///conversations.db"))
    agent = LaneAgent(agent, runtime=runtime, store=store)                  # once
    result = await agent.run("hello", conversation_id=conversation_id)      # and run_stream, run_stream_events, iter

Needs `turnlane[pydantic-ai]`.
"""

from turnlane_integrations._needs import missing as _missing

try:
    from turnlane_integrations.pydantic_ai.agent import LaneAgent
    from turnlane_integrations.pydantic_ai.store import TranscriptConversationStore
    from turnlane_integrations.pydantic_ai.takeover import ConversationTakeover
    from turnlane_integrations.pydantic_ai.turn import ConversationTurn, conversation_turn
except ImportError as _error:
    raise _missing("pydantic-ai", "pydantic-ai", _error) from _error

__all__ = (
    "ConversationTakeover",
    "ConversationTurn",
    "LaneAgent",
    "TranscriptConversationStore",
    "conversation_turn",
)
