"""langgraph: runs of a thread one after the other, and checkpointers that refuse to write behind somebody's back.

    graph = LaneGraph(builder.compile(checkpointer=saver), runtime)     # then as before: ainvoke, astream, invoke, ...
    saver = FencedSaver(saver, salvage=transcripts)                     # a write by somebody else is found

Needs `turnlane[langgraph]`.
"""

from turnlane_integrations._needs import missing as _missing

try:
    from turnlane_integrations.langgraph.fence import FencedSaver
    from turnlane_integrations.langgraph.graph import LaneGraph
except ImportError as _error:
    raise _missing("langgraph", "langgraph", _error) from _error

__all__ = ("FencedSaver", "LaneGraph")
