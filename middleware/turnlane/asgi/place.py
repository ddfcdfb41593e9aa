"""Where a request belongs: the lane of its key, or of the session it asks for by id."""

from dataclasses import dataclass
from inspect import isawaitable

from turnlane import errors
from turnlane.asgi.connection import LaneConnection
from turnlane.asgi.matching import matches
from turnlane.asgi.settings import Settings
from turnlane.keys import KeyExtractor, canonical, extract, param_of

__all__ = ("Place", "lane_of", "place_of")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request belongs: a lane, and the session it asks for by id."""

    key: str
    session_id: str | None
    visible: bool


async def place_of(settings: Settings, connection: LaneConnection) -> Place | None:
    """Return the place of a request; None for one that has no lane.

    Raises:
        RequestRefused: it names none and must, or in a form that is not accepted.
        SessionError: whose session an id is can not be told.
    """
    if settings.paths is not None and not await matches(settings.paths, connection):
        return None
    if settings.bypass is not None and await matches(settings.bypass, connection):
        return None
    visible = settings.visible
    if not isinstance(visible, bool):
        found = visible(connection)
        visible = bool(await found) if isawaitable(found) else bool(found)
    session_id = None if settings.session_id is None else await _read(settings.session_id, connection)
    key = await (_read(settings.key, connection) if session_id is None else lane_of(settings, session_id))
    if key is not None:
        return Place(key, session_id, visible)
    if settings.required:
        raise errors.SessionKeyRequired(param_of(settings.key))
    return None


async def lane_of(settings: Settings, session_id: str) -> str:
    """Return the lane of a session.

    Raises:
        SessionKeyInvalid: it is no session id.
        SessionError: it can not be told.
    """
    try:
        return (await settings.runtime.session_of(session_id)).key
    except errors.SessionError:  # a damaged entry is a ValueError too, and not the client's fault
        raise
    except ValueError as error:
        param = "session id" if settings.session_id is None else param_of(settings.session_id)
        raise errors.SessionKeyInvalid(param, reason=str(error)) from error


async def _read(extractor: KeyExtractor, connection: LaneConnection) -> str | None:
    found = await extract(extractor, connection)
    return None if found is None else canonical(found, param_of(extractor))
