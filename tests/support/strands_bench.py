"""Agents of strands with sessions in files, behind a fence and as a stranger would have them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from strands import Agent
from strands.session.file_session_manager import FileSessionManager
from strands.session.repository_session_manager import RepositorySessionManager

from support.rigs import ScriptedModel
from support.rigs.contract import Line
from support.rigs.strands import Scripted, lines_of
from turnlane import Transcripts
from turnlane_integrations.strands import FencedRepository, LaneAgents

__all__ = ("AGENT", "Bench", "invoke", "read")

AGENT = "a"


class Bench:
    """Agents over files in a directory, with a fence; `plain` is what a stranger would make."""

    def __init__(self, directory: Path) -> None:
        self.model = ScriptedModel()
        self.directory = str(directory / "sessions")
        self.salvage = Transcripts(directory / "salvage")

    def store(self, session_id: str) -> FileSessionManager:
        return FileSessionManager(session_id, storage_dir=self.directory)

    def plain(self, session_id: str) -> Agent:
        return self._agent(self.store(session_id))

    def fenced(self, session_id: str) -> Agent:
        repository = FencedRepository(self.store(session_id), salvage=self.salvage)
        return self._agent(RepositorySessionManager(session_id, repository))

    def _agent(self, sessions: RepositorySessionManager) -> Agent:
        return Agent(
            model=Scripted(self.model),
            agent_id=AGENT,
            session_manager=sessions,
            callback_handler=None,
        )

    def history(self, session_id: str, agent_id: str = AGENT) -> list[Line]:
        stored = self.store(session_id).list_messages(session_id, agent_id)
        return lines_of([message.to_message() for message in stored])

    async def kept(self, session_id: str) -> list[Any]:
        return list(await self.salvage.read(session_id))


async def read(events: AsyncGenerator[dict[str, Any], None]) -> list[dict[str, Any]]:
    async with aclosing(events):
        return [event async for event in events]


async def invoke(agents: LaneAgents, session_id: str, text: str, *, streaming: bool) -> str:
    if not streaming:
        return str(await agents.invoke_async(session_id, text)).strip()
    return str((await read(agents.stream_async(session_id, text)))[-1]["result"]).strip()
