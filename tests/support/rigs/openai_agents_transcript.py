"""An agent of openai-agents whose sessions are in transcripts of turnlane, in SQLite."""

from agents import Session

from support.rigs.openai_agents import OpenAIAgents
from turnlane import Transcripts
from turnlane_integrations.openai_agents import TranscriptSession

__all__ = ("RIG",)


class OnTranscripts(OpenAIAgents):
    """See the module. Without lanes it is a session like any other."""

    async def open(self) -> None:
        await super().open()
        transcripts = Transcripts(f"sqlite:///{self.place.directory}/transcripts.db")
        self._transcripts = await self.stack.enter_async_context(transcripts)

    def session_of(self, conversation: str) -> Session:
        return TranscriptSession(conversation, self._transcripts)


RIG = OnTranscripts
