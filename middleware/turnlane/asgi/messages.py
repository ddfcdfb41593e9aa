"""What a request asks to be answered, and for whom."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import json
from contextlib import suppress
from inspect import isawaitable
from typing import Any, cast

from starlette.types import Scope

from turnlane.asgi.connection import LaneConnection
from turnlane.asgi.place import Place
from turnlane.asgi.settings import Settings, require_merge
from turnlane.errors import BodyTooLarge
from turnlane.keys import raw_headers
from turnlane.messages import HttpMessage
from turnlane.policies import Coalesce, Policy, Steer
from turnlane.turns import Turn

__all__ = ("describe_body", "is_shared", "message_of", "require_body", "target_of", "was_taken")


async def message_of(settings: Settings, policy: Policy, connection: LaneConnection) -> tuple[Any, str | None]:
    """Return the message of a request and its principal, as far as the settings and its policy ask for them.

    A body longer than is read before the app runs is no message for other turns: its request stands alone.

    Raises:
        CapacityExceeded: the bodies held already use up the budget.
        ClientGone: the client left before its body was complete.
        TypeError: the principal is not text.
        ValueError: the policy was chosen for this request, and the app would see one of several messages alone.
    """
    require_merge(policy, has_message=settings.message is not None)
    body: bytes | None = None
    if isinstance(policy, Coalesce | Steer):  # before `message=`, too: a merge may put another body in its place
        with suppress(BodyTooLarge):
            body = await connection.body()
    message: Any = None
    if settings.message is not None:
        found = settings.message(connection)
        message = await found if isawaitable(found) else found
    elif body is not None:
        message = HttpMessage(body, connection.headers.get("content-type", ""))
    if body is None and isinstance(policy, Coalesce):
        message = None
    principal: Any = None if settings.principal is None else settings.principal(connection)
    principal = await principal if isawaitable(principal) else principal
    if principal is not None and not isinstance(principal, str):
        raise TypeError(f"principal= must return a str or None, not {type(principal).__name__}")
    return message, principal


def target_of(scope: Scope, message: object, policy: Policy, place: Place) -> object:
    """Return what would answer the message of a request: only messages for the same one become one turn.

    Who names a session means that one, and not what its lane has by then. A response that is shared is a stream for all
    who get it, or for none.
    """
    streams: object = None
    if isinstance(policy, Coalesce) and policy.share_result and isinstance(message, HttpMessage):
        try:
            document = json.loads(message.body)
        except (ValueError, RecursionError):
            document = None
        streams = isinstance(document, dict) and bool(cast("dict[str, Any]", document).get("stream"))
    session = place.session_id, place.visible
    return scope["method"], scope["path"], scope.get("query_string", b""), streams, session


def require_body(merged: object, *, has_message: bool) -> None:
    """Check that an app can be given a merged message; with `message=` it may be one of the app's own.

    Raises:
        TypeError: it is no `HttpMessage`, or not one of bytes.
        ValueError: its type can not be a header.
    """
    if isinstance(merged, HttpMessage):
        memoryview(merged.body)
        merged.content_type.encode("latin-1")
    elif not has_message:
        raise TypeError(f"merge must return an HttpMessage for the app, not {type(merged).__name__}")


def describe_body(scope: Scope, message: HttpMessage) -> None:
    """Make the headers of a request tell of the body it has now."""
    gone = (b"content-length", b"content-type", b"content-encoding", b"transfer-encoding")
    headers = [(name, value) for name, value in raw_headers(scope) if name not in gone]
    headers.append((b"content-length", b"%d" % len(message.body)))
    if message.content_type:
        headers.append((b"content-type", message.content_type.encode("latin-1")))
    scope["headers"] = headers


def is_shared(turn: Turn) -> bool:
    """Tell whether others wait for the result of a running turn."""
    return turn._talk is not None and turn._talk.shares


def was_taken(turn: Turn) -> bool:
    """Tell whether the message of a turn is part of another turn, which its sender may not have been told."""
    return turn._talk is not None and turn._talk.taken
