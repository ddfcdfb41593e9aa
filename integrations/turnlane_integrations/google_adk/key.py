"""The key of a session's lane."""

from turnlane.errors import SessionKeyInvalid, SessionKeyRequired
from turnlane.keys import canonical

__all__ = ("session_key",)


def session_key(app_name: str | None, user_id: str | None, session_id: str | None) -> str:
    """Return the key of a session, as `turnlane.keys.adk()` finds it in requests to ADK's own web app.

    Args:
        app_name: of the runner.
        user_id: of the session.
        session_id: of the session.

    Raises:
        SessionKeyRequired: one of them is missing or blank.
        SessionKeyInvalid: one of them is not text, or can not be part of a key.
    """
    named = {"app_name=": app_name, "user_id=": user_id, "session_id=": session_id}
    parts = (_part(value, param) for param, value in named.items())
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)


def _part(value: object, param: str) -> str:
    if value is not None and not isinstance(value, str):
        raise SessionKeyInvalid(param, reason=f"it is {value!r}, not text")
    found = None if value is None else canonical(value, param)
    if found is None:
        raise SessionKeyRequired(param)
    return found
