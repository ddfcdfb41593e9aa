"""llama-index: runs of agents over one memory one after the other, and chat stores that a foreign write is found in.

    runner = LaneRunner(runtime)
    output = await runner.run(agent, user_msg="hello", memory=memory)  # instead of agent.run(user_msg="hello", ...)
    async with runner.run_streamed(agent, user_msg="hello", memory=memory) as handler:
        async for event in handler.stream_events(): ...

Needs `turnlane[llama-index]`.
"""

from turnlane_integrations._needs import missing as _missing

try:
    from turnlane_integrations.llama_index.fence import FencedChatStore
    from turnlane_integrations.llama_index.runner import LaneRunner
except ImportError as _error:
    raise _missing("llama-index-core", "llama-index", _error) from _error

__all__ = ("FencedChatStore", "LaneRunner")
