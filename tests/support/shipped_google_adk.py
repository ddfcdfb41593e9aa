"""The web app that google-adk ships, with one agent that knows one session."""

import json
import warnings
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from google.adk.agents import BaseAgent
from google.adk.cli.fast_api import get_fast_api_app
from google.adk.cli.utils.base_agent_loader import BaseAgentLoader
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from support.rigs.contract import ScriptedModel
from support.rigs.google_adk import APP, USER, agent_of
from turnlane import keys

__all__ = ("KEY", "app_in", "ask", "asked", "begin", "sessions_in")

KEY = keys.adk()


class OneAgent(BaseAgentLoader):
    """What finds the agents; this one has one."""

    def __init__(self, agent: BaseAgent) -> None:
        self._agent = agent

    def load_agent(self, agent_name: str) -> BaseAgent:
        return self._agent

    def list_agents(self) -> list[str]:
        return [APP]


def sessions_in(directory: Path) -> SqliteSessionService:
    """Return the sessions of an app whose directory this is."""
    return SqliteSessionService(f"{directory}/sessions.db")


def app_in(directory: Path, model: ScriptedModel, *, sessions: str | None = None) -> FastAPI:
    """Return the app; its sessions are in a file there, or where a URL says."""
    with warnings.catch_warnings():
        # Its own constructor warns of parts of it that are new.
        warnings.filterwarnings("ignore", r"\[EXPERIMENTAL\]", UserWarning)
        app: FastAPI = get_fast_api_app(
            agents_dir=str(directory),
            agent_loader=OneAgent(agent_of(model)),
            session_service_uri=sessions or f"sqlite:///{directory}/sessions.db",
            use_local_storage=False,
            web=False,
        )
    return app


async def begin(directory: Path) -> None:
    """Make the session."""
    await sessions_in(directory).create_session(app_name=APP, user_id=USER, session_id="c")


def asked(text: str) -> dict[str, Any]:
    """Return what a client sends."""
    said = {"role": "user", "parts": [{"text": text}]}
    return {"appName": APP, "userId": USER, "sessionId": "c", "newMessage": said}


async def ask(client: httpx.AsyncClient, text: str, *, streaming: bool) -> str:
    """Return the answer, or what the server says instead."""
    response = await client.post("/run_sse" if streaming else "/run", json=asked(text))
    if response.status_code != 200:
        return f"status {response.status_code}"
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    events = [json.loads(line) for line in lines] if streaming else response.json()
    return "".join(part["text"] for event in events for part in event.get("content", {}).get("parts", []))
