"""What a session that somebody else has written to is, for us and for ADK."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from google.adk.errors import StaleSessionError

from turnlane import current_turn
from turnlane.asgi import refuse
from turnlane.errors import TranscriptTakeover

if TYPE_CHECKING:
    from fastapi import Response

__all__ = ("SessionTakeover", "place_of", "refuse_stale_session", "takeover_of", "told")


class SessionTakeover(TranscriptTakeover, StaleSessionError):
    """Somebody else has written to a session after a run had read it. ADK knows it as a `StaleSessionError`.

    What ADK does about those, as dropping a compaction that comes too late, it goes on to do.
    """


def place_of(app_name: str, user_id: str | None, session_id: str | None) -> str:
    """Return the words that name a session in errors."""
    return f"session {session_id!r} of user {user_id!r} in app {app_name!r}"


def takeover_of(where: str, *, expected: str, found: str, salvaged: str | None = None) -> SessionTakeover:
    """Return the error to raise.

    Args:
        where: the session, for people.
        expected: what the run has read, for people.
        found: what is there, for people.
        salvaged: where what was to be stored is.
    """
    turn = current_turn()
    return SessionTakeover(
        where,
        kind="appended",  # a session grows, by events, and by nothing else
        offset=None,
        line=None,
        expected=expected,
        found=found,
        phase="append",
        turn=None if turn is None else turn.id,
        salvaged=salvaged,
    )


@contextmanager
def told(app_name: str, user_id: str | None, session_id: str | None) -> Generator[None, None, None]:
    """Raise a stale session as a takeover, unless it is one."""
    try:
        yield
    except SessionTakeover:
        raise
    except StaleSessionError as error:
        where = place_of(app_name, user_id, session_id)
        raise takeover_of(where, expected="what the run had read", found="a newer event") from error


async def refuse_stale_session(request: object, error: Exception) -> "Response":
    """Answer a stale session as `LaneMiddleware` answers a takeover: 409, not to be tried again.

    An exception handler for ADK's own web app, `app.add_exception_handler(StaleSessionError, refuse_stale_session)`.

    Not guaranteed: anything for `/run_sse`, where the response has begun; ADK tells of the error in the stream.
    """
    if not isinstance(error, TranscriptTakeover):
        takeover = takeover_of("the session", expected="what the run had read", found="a newer event")
        takeover.__cause__ = error
        error = takeover
    return await refuse(request, error)
