"""`AgentOS`, the app that agno ships, with one agent that knows one session."""

import json
from pathlib import Path
from typing import Any

import httpx
from agno.db.sqlite import SqliteDb
from agno.os import AgentOS
from fastapi import FastAPI

from support.rigs.agno import Scripted, agent_of
from support.rigs.contract import ScriptedModel
from turnlane import keys

__all__ = ("KEY", "agent_in", "app_in", "app_of", "ask", "begin")

KEY = keys.agent_os()


def agent_in(directory: Path, model: ScriptedModel) -> Any:
    """Return the agent, whose sessions are in a file there."""
    return agent_of(Scripted(script=model), SqliteDb(db_file=f"{directory}/agno.db"))


def app_in(directory: Path, model: ScriptedModel) -> FastAPI:
    """Return the app of such an agent."""
    return app_of(agent_in(directory, model))


def app_of(agent: Any) -> FastAPI:
    """Return the app of an agent."""
    return AgentOS(agents=[agent], telemetry=False).get_app()


async def begin(directory: Path) -> None:
    """Make what has to be there; a session is made by its first run."""


async def ask(client: httpx.AsyncClient, text: str, *, streaming: bool) -> str:
    """Return the answer to a message, which is a multipart form."""
    form = {"message": text, "session_id": "c", "stream": "true" if streaming else "false"}
    response = await client.post("/agents/rig/runs", files={name: (None, value) for name, value in form.items()})
    assert response.status_code == 200, response.text
    if not streaming:
        return str(response.json()["content"])
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return "".join(event["content"] for event in events if event["event"] == "RunContent")
