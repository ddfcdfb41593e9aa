"""What callers give to `Transcripts`, checked."""

from turnlane.transcripts.contract import Author

__all__ = ("author_of", "require_id", "require_one_of", "require_policy")

MAX_ID_BYTES = 512
MAX_TURN_BYTES = 80


def require_one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise `ValueError` for a setting that is not one of those there are."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def require_policy(policy: object) -> None:
    """Raise `ValueError` for what is no policy for takeovers."""
    if not callable(policy):
        require_one_of("on_takeover", policy, ("raise", "accept"))


def author_of(turn: object, token: object) -> Author:
    """Return who writes, or raise `ValueError` for what is no id of a turn, or no token."""
    if not isinstance(turn, str) or len(turn.encode("utf-8", "surrogatepass")) > MAX_TURN_BYTES or _is_no_utf8(turn):
        raise ValueError(f"a turn's id is text of at most {MAX_TURN_BYTES} bytes of UTF-8: {turn!r}")
    if token is not None and (isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < 2**63):
        raise ValueError(f"a token is a whole number from 0 to 2**63 - 1: {token!r}")
    return Author(turn=turn, token=token)


def _is_no_utf8(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def require_id(session_id: object) -> None:
    """Raise `ValueError` for what is no session id."""
    if not isinstance(session_id, str) or not session_id:
        raise ValueError(f"a session id is text, and not empty: {session_id!r}")
    if len(session_id.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
        raise ValueError(f"a session id has at most {MAX_ID_BYTES} bytes")
    if "\0" in session_id:
        raise ValueError("a session id holds no NUL")
