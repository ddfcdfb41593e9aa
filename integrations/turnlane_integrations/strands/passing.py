"""`PassingRepository`: a repository of strands that passes all on to another one."""

from typing import TYPE_CHECKING, Any

from strands.session.session_repository import SessionRepository
from strands.types.session import Session, SessionAgent, SessionMessage

if TYPE_CHECKING:
    from strands.multiagent import MultiAgentBase

__all__ = ("PassingRepository",)


class PassingRepository(SessionRepository):
    """Does what `repository` does, for subclasses that do some of it differently."""

    def __init__(self, repository: SessionRepository) -> None:
        self._repository = repository

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Create a session."""
        return self._repository.create_session(session, **kwargs)

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Read a session."""
        return self._repository.read_session(session_id, **kwargs)

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Create an agent in a session."""
        self._repository.create_agent(session_id, session_agent, **kwargs)

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Read an agent."""
        return self._repository.read_agent(session_id, agent_id, **kwargs)

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Write an agent's state."""
        self._repository.update_agent(session_id, session_agent, **kwargs)

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Write a message."""
        self._repository.create_message(session_id, agent_id, session_message, **kwargs)

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        """Read a message."""
        return self._repository.read_message(session_id, agent_id, message_id, **kwargs)

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Write over a message."""
        self._repository.update_message(session_id, agent_id, session_message, **kwargs)

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """List messages."""
        return self._repository.list_messages(session_id, agent_id, limit, offset, **kwargs)

    def create_multi_agent(self, session_id: str, multi_agent: "MultiAgentBase", **kwargs: Any) -> None:
        """Create the state of a graph or swarm."""
        self._repository.create_multi_agent(session_id, multi_agent, **kwargs)

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        """Read the state of a graph or swarm."""
        return self._repository.read_multi_agent(session_id, multi_agent_id, **kwargs)

    def update_multi_agent(self, session_id: str, multi_agent: "MultiAgentBase", **kwargs: Any) -> None:
        """Write the state of a graph or swarm."""
        self._repository.update_multi_agent(session_id, multi_agent, **kwargs)
