"""`FencedRepository`: any repository of strands, which refuses to write over what somebody else has written."""

import json
from hashlib import sha256
from typing import Any, NamedTuple

from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage

from turnlane import Transcripts
from turnlane_integrations._checked import some_transcripts
from turnlane_integrations.strands.passing import PassingRepository
from turnlane_integrations.strands.refusal import SessionChanged
from turnlane_integrations.strands.refusals import noted

__all__ = ("FencedRepository",)

Agent = tuple[str, str]  # session id, agent id


class Seen(NamedTuple):
    """A message that was read or written."""

    message: SessionMessage
    digest: bytes


class FencedRepository(PassingRepository):
    """Wraps a repository for one agent: what it has read must still be there when it writes, and its place be free.

    A repository whose messages have the numbers that strands gives them, as those it comes with.

        store = FencedRepository(FileSessionManager(session_id), salvage=transcripts)
        Agent(..., session_manager=RepositorySessionManager(session_id, store))

    Strands counts messages in memory and writes message n whatever is there. Here a message is written only where there
    is none, behind the last one the agent has read or written; the agent's state only over the state it has read.

    Guarantees: a message that others have added, or the last one changed or taken away, or a state they have written,
    since this agent has read them, is found at the next write: that is a `SessionChanged`, in `LaneAgents` a
    `TranscriptTakeover`; nothing is written any more, and the words are in the salvage.

    Not guaranteed: that a write in the very moment between that look and the writing is found, or a change of messages
    before the last one; invocations through `LaneAgents` leave no such moment to each other. States of graphs and
    swarms are passed on as they are. `SnapshotSessionManager` has no repository, and no fence.

    Args:
        repository: where sessions are. Make one wrapper for each agent: it knows what that agent has seen.
        salvage: where refused words go, as the transcript of the session's id.

    Raises:
        ValueError: `salvage` is none.
    """

    def __init__(self, repository: SessionRepository, *, salvage: Transcripts) -> None:
        super().__init__(repository)
        self._salvage = some_transcripts(salvage, "salvage")
        # Mutable: what each agent has read or written last; `_last` is None where it has no message.
        self._last: dict[Agent, Seen | None] = {}
        self._state: dict[Agent, bytes] = {}
        self._refused: set[Agent] = set()

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Create a session; one that somebody else has created in the meantime is as good."""
        try:
            return self._repository.create_session(session, **kwargs)
        except SessionException:
            there = self._repository.read_session(session.session_id)
            if there is None:
                raise
            return there

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Create an agent; one without messages that somebody else has created in the meantime is as good.

        Raises:
            SessionChanged: it has messages, which this agent was not shown.
        """
        agent_id = session_agent.agent_id
        there = self._repository.read_agent(session_id, agent_id)
        if there is None:
            self._repository.create_agent(session_id, session_agent, **kwargs)
        elif self._repository.list_messages(session_id, agent_id, limit=1):
            raise self._refusal(session_id, agent_id, "appended", "no agent", "one with messages", "open")
        self._state[session_id, agent_id] = _digest(there or session_agent)
        self._last[session_id, agent_id] = None

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Read an agent, and remember it."""
        found = self._repository.read_agent(session_id, agent_id, **kwargs)
        if found is not None:
            self._state[session_id, agent_id] = _digest(found)
        return found

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Write an agent's state, if nobody else has since it was read; nothing after a refusal.

        Raises:
            SessionChanged: somebody has.
        """
        agent_id = session_agent.agent_id
        agent = session_id, agent_id
        if agent in self._refused:  # strands does this on the way out of what was refused
            return
        there = self._repository.read_agent(session_id, agent_id)
        if agent in self._state and (there is None or _digest(there) != self._state[agent]):
            kind = "deleted" if there is None else "edited"
            found = "none" if there is None else f"one of {there.updated_at}"
            raise self._refusal(session_id, agent_id, kind, "its state", found, "append", session_agent)
        self._repository.update_agent(session_id, session_agent, **kwargs)
        self._state[agent] = _digest(session_agent)

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Write a message behind the last one, if nobody else has written.

        Raises:
            SessionChanged: somebody has.
        """
        self._prove(session_id, agent_id, session_message)
        number = session_message.message_id
        if self._repository.read_message(session_id, agent_id, number) is not None:
            raise self._refusal(
                session_id, agent_id, "appended", f"{number} messages", "more", "append", session_message
            )
        self._repository.create_message(session_id, agent_id, session_message, **kwargs)
        self._last[session_id, agent_id] = Seen(session_message, _digest(session_message))

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Write over a message, as strands does to redact it, if nobody else has written.

        Raises:
            SessionChanged: somebody has.
        """
        self._prove(session_id, agent_id, session_message)
        self._repository.update_message(session_id, agent_id, session_message, **kwargs)
        last = self._last.get((session_id, agent_id))
        if last is not None and last.message.message_id == session_message.message_id:
            self._last[session_id, agent_id] = Seen(session_message, _digest(session_message))

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """List messages, and remember the last one of all."""
        found = self._repository.list_messages(session_id, agent_id, limit, offset, **kwargs)
        if limit is None:
            self._last[session_id, agent_id] = Seen(found[-1], _digest(found[-1])) if found else None
        return found

    def _prove(self, session_id: str, agent_id: str, message: SessionMessage) -> None:
        """Raise if the last message that was read or written is not there any more as it was."""
        last = self._last.get((session_id, agent_id))
        number = -1 if last is None else last.message.message_id
        there = None if last is None else self._repository.read_message(session_id, agent_id, number)
        if (session_id, agent_id) in self._refused:
            kept = "a wrapper that has refused its agent a write: make one for each agent"
            raise self._refusal(session_id, agent_id, "edited", "a new wrapper", kept, "append", message)
        if last is None or there is last.message:  # a repository in memory has what strands has, and changes
            return
        if there is None or _digest(there) != last.digest:
            kind, found = ("truncated", "none") if there is None else ("edited", f"one of {there.updated_at}")
            raise self._refusal(session_id, agent_id, kind, f"message {number}", found, "append", message)

    def _refusal(
        self,
        session_id: str,
        agent_id: str,
        kind: str,
        expected: str,
        found: str,
        phase: str,
        *words: SessionMessage | SessionAgent,
    ) -> SessionChanged:
        self._refused.add((session_id, agent_id))
        return noted(
            SessionChanged(
                session_id,
                kind=kind,
                expected=expected,
                found=found,
                phase=phase,
                words=tuple(
                    {"agent_id": agent_id, "message" if isinstance(each, SessionMessage) else "agent": each.to_dict()}
                    for each in words
                ),
                salvage=self._salvage,
            )
        )


def _digest(record: SessionMessage | SessionAgent) -> bytes:
    """Return what tells records apart, as they are read back; repositories keep the times in their own ways."""
    plain = json.loads(json.dumps(record.to_dict(), default=str))
    told = {name: value for name, value in plain.items() if name not in ("created_at", "updated_at")}
    return sha256(json.dumps(told, sort_keys=True).encode()).digest()
