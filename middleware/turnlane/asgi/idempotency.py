"""Which message a request carries: by its idempotency key, or by its content and the client's own retry count."""

import json
import re
from hashlib import sha256
from typing import cast

from starlette.types import Scope

from turnlane.asgi.body import RequestBody
from turnlane.duplicates import Message
from turnlane.errors import BodyTooLarge, IdempotencyKeyInvalid, MessageTooLarge
from turnlane.keys import raw_headers

__all__ = ("BY_KEY", "BY_RETRY", "MAX_IDEMPOTENCY_KEY", "idempotency_key", "message_of")

BY_KEY = "header idempotency-key"
BY_RETRY = "header x-stainless-retry-count"
MAX_IDEMPOTENCY_KEY = 255  # characters
QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')  # a String of RFC 8941
BARE = re.compile(r"[!#-+\--:<-\[\]-~]+")  # visible ASCII, but nothing of which a list or a quotation is made
EVENT_STREAM = "text/event-stream"


async def message_of(scope: Scope, body: RequestBody, session: str, *, retries: bool) -> Message | None:
    """Return the message of a request; None if it can not be told from others, which are then all new.

    Args:
        scope: of the request.
        body: is read to its end, if there is anything to tell the message by.
        session: whose message it is; no other session's is the same.
        retries: whether the client's own retry count may tell.

    Raises:
        IdempotencyKeyInvalid: the key is malformed.
        MessageTooLarge: there is a key, and the body is larger than can be compared.
        CapacityExceeded: there is no room for the body.
        ClientGone: the client left before the body was complete.
    """
    key = idempotency_key(scope)
    attempt = _attempt(scope) if key is None and retries else None
    if key is None and attempt is None:
        return None
    try:
        data = await body.whole(BY_KEY)
    except BodyTooLarge as error:
        if key is None:
            return None
        raise MessageTooLarge(BY_KEY, body_limit=error.body_limit) from None
    content_type = _header(scope, b"content-type")
    query: bytes = scope.get("query_string") or b""
    fingerprint = _digest(content_type, query, data)
    named = ("retry", fingerprint) if key is None else ("key", key)
    parts = (session, str(scope["method"]), str(scope["path"]), *named)
    return Message(
        id=_digest(*(part.encode("utf-8", "surrogatepass") for part in parts)),
        fingerprint=fingerprint,
        stream=_asks_for_stream(scope, data),
        by_retry=key is None,
        anew=attempt == 0,
    )


def idempotency_key(scope: Scope) -> str | None:
    """Return the value of `Idempotency-Key`, written as a string of RFC 8941 or bare; None without one.

    Raises:
        IdempotencyKeyInvalid: it is malformed, too long, or there are two.
    """
    given = {bytes(value).strip(b" \t") for name, value in raw_headers(scope) if name == b"idempotency-key"}
    if not given:
        return None
    if len(given) > 1:
        raise IdempotencyKeyInvalid(BY_KEY, reason="it is given more than once, with different values")
    raw = given.pop().decode("latin-1")
    quoted = QUOTED.fullmatch(raw)
    if quoted is None and not BARE.fullmatch(raw):
        raise IdempotencyKeyInvalid(
            BY_KEY, reason="it is neither a quoted string (RFC 8941) nor visible ASCII without commas and semicolons"
        )
    key = raw if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1])
    if not key:
        raise IdempotencyKeyInvalid(BY_KEY, reason="it is empty")
    if len(key) > MAX_IDEMPOTENCY_KEY:
        raise IdempotencyKeyInvalid(BY_KEY, reason=f"it is longer than {MAX_IDEMPOTENCY_KEY} characters")
    return key


def _attempt(scope: Scope) -> int | None:
    value = _header(scope, b"x-stainless-retry-count")
    return int(value) if value.isdigit() and len(value) < 10 else None


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((bytes(value) for name, value in raw_headers(scope) if name == wanted), b"")


def _digest(*parts: bytes) -> str:
    digest = sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def _asks_for_stream(scope: Scope, data: bytes) -> bool:
    if EVENT_STREAM.encode() in _header(scope, b"accept").lower():
        return True
    if b'"stream"' not in data:
        return False
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and cast("dict[str, object]", document).get("stream") is True
