"""agno: runs of one session one after the other, of agents, teams and workflows.

    runner = LaneRunner(runtime)
    result = await runner.arun(agent, "hello", session_id=conversation)                # instead of agent.arun
    async for event in runner.arun(agent, "hello", session_id=conversation, stream=True): ...
    result = runner.run(agent, "hello", session_id=conversation)                       # instead of agent.run
    agent = Agent(db=fenced_db(db, salvage=transcripts), ...)                          # finds what others write

Needs `turnlane[agno]`.
"""

from importlib import import_module as _import_module

from turnlane_integrations._needs import missing as _missing

try:
    _import_module("agno.agent")  # it is used by what it does, not by its types

    from turnlane_integrations.agno.fence import fenced_db
    from turnlane_integrations.agno.runner import LaneRunner
    from turnlane_integrations.agno.runs import Component
except ImportError as _error:
    raise _missing("agno", "agno", _error) from _error

__all__ = ("Component", "LaneRunner", "fenced_db")
