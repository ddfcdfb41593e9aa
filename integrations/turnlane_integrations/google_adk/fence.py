"""`FencedSessions`: any session service of ADK; what a stale session may not store is kept."""

import asyncio
import json
from typing import Any, cast

from google.adk.errors import StaleSessionError
from google.adk.events import Event
from google.adk.sessions import BaseSessionService, InMemorySessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse

from turnlane import Transcripts, current_turn
from turnlane.settled import settled
from turnlane_integrations._checked import some_transcripts
from turnlane_integrations._entries import append
from turnlane_integrations.google_adk.key import session_key
from turnlane_integrations.google_adk.stale import SessionTakeover, place_of, takeover_of

__all__ = ("FencedSessions",)


class FencedSessions(BaseSessionService):
    """Wraps a session service: an event that it refuses, because its session is stale, is kept.

    Guarantees: where the service raises `StaleSessionError` the event is in the salvage, and the error is a
    `SessionTakeover` that says so. An `InMemorySessionService`, which does not look, is looked after here.

    What has been begun with the service is finished before a cancellation goes on: SQLAlchemy leaves the file of
    SQLite locked, for all sessions, where a read of it by aiosqlite is cut off.

    Not guaranteed: that events are kept which a service refuses for other reasons.

    Args:
        service: where the sessions are.
        salvage: where refused events go, as the transcript of the session's key.

    Raises:
        ValueError: an argument is not what it is to be.
    """

    def __init__(self, service: BaseSessionService, *, salvage: Transcripts) -> None:
        if not isinstance(cast("object", service), BaseSessionService):
            raise ValueError(f"a session service is needed, not {service!r}")
        self.service: BaseSessionService = service
        self._salvage = some_transcripts(salvage, "salvage")

    def __getattr__(self, name: str) -> Any:
        """Return what the service has beyond the contract, as `close`."""
        if name.startswith("__") or name == "service":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.service, name)

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
        **options: Any,
    ) -> Session:
        """Create a session, with what options the service has, as `ttl`."""
        return await settled(
            self.service.create_session(
                app_name=app_name, user_id=user_id, state=state, session_id=session_id, **options
            )
        )

    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        """Return a session; None where there is none."""
        return await settled(
            self.service.get_session(app_name=app_name, user_id=user_id, session_id=session_id, config=config)
        )

    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        """List the sessions."""
        return await settled(self.service.list_sessions(app_name=app_name, user_id=user_id))

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session."""
        await settled(self.service.delete_session(app_name=app_name, user_id=user_id, session_id=session_id))

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return the state of a user."""
        return await settled(self.service.get_user_state(app_name=app_name, user_id=user_id))

    async def flush(self) -> None:
        """Store what the service has buffered."""
        await settled(self.service.flush())

    async def append_event(self, session: Session, event: Event) -> Event:
        """Store an event, if nobody else has stored one since this session was read.

        Raises:
            SessionTakeover: somebody has; the event is in the salvage.
        """
        return await settled(self._append(session, event))

    async def _append(self, session: Session, event: Event) -> Event:
        try:
            if isinstance(self.service, InMemorySessionService):
                await self._prove(self.service, session)
            return await self.service.append_event(session, event)
        except SessionTakeover:
            raise
        except StaleSessionError as error:
            raise await self._refused(session, event) from error

    async def _prove(self, service: InMemorySessionService, session: Session) -> None:
        """Compare when a session was written last; nothing can come between that and the storing, in one loop."""
        stored = await service.get_session(
            app_name=session.app_name,
            user_id=session.user_id,
            session_id=session.id,
            config=GetSessionConfig(num_recent_events=0),
        )
        if stored is not None and stored.last_update_time != session.last_update_time:
            raise StaleSessionError(f"the session was written at {stored.last_update_time}")

    async def _refused(self, session: Session, event: Event) -> SessionTakeover:
        """Keep an event, and return the error to raise. It is kept also where the caller is cancelled meanwhile."""
        key = session_key(session.app_name, session.user_id, session.id)
        turn = current_turn()
        entry = {"event": event.model_dump(mode="json", exclude_none=True)}
        of = "" if turn is None else turn.id
        await asyncio.shield(append(self._salvage, key, [entry], lambda: [json.dumps(entry, default=repr)], turn=of))
        return takeover_of(
            place_of(session.app_name, session.user_id, session.id),
            expected=f"what was there at {session.last_update_time}",
            found="a newer event",
            salvaged=f"{key} in {self._salvage.store.where}",
        )
