"""Errors told inside a stream of events that has begun, in the form that the OpenAI and Anthropic clients raise."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

__all__ = ("error_event", "error_of_response", "error_of_silence", "is_problem")

# The words clients know the families of errors by; see the table of refusals.
KINDS: Mapping[int, str] = MappingProxyType(
    {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        409: "conflict_error",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
)


def error_event(document: Mapping[str, Any]) -> bytes:
    """Return an event that tells of an error; `document` has a member `error`."""
    return b"event: error\ndata: " + json.dumps({"type": "error", **document}).encode() + b"\n\n"


def error_of_response(status: int, kind: bytes, body: bytes) -> dict[str, Any]:
    """Return the document of an error event that stands for a response which can not be sent any more.

    What a body of ours or in the form of OpenAI's says is kept, of any other JSON the sentence in `error`, `detail` or
    `message`.

    Args:
        status: of the response.
        kind: its content type.
        body: the whole of it; empty if it is not to be looked at.
    """
    if status < 400 and not is_problem(kind):
        shown = kind.decode("latin-1") or "no content type"
        message = f"this server answered with status {status} and {shown} where a stream of events was asked for"
        return {"error": _error(message, "api_error", "not_a_stream")}
    found = _json_object(body)
    given = found.get("error")
    word = KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
    sentences = (given, found.get("detail"), found.get("message"))
    message = next((text for text in sentences if isinstance(text, str)), f"the server answered with status {status}")
    document: dict[str, Any] = {"error": _error(message, word, f"http_{status}")}
    if isinstance(given, dict):
        told = cast("dict[str, Any]", given)
        document["error"] = {**document["error"], **told}
        if not isinstance(told.get("message"), str):
            document["error"]["message"] = message
    if "into" in found:
        document["into"] = found["into"]
    return document


def is_problem(content_type: bytes) -> bool:
    """Tell whether a content type is that of an error's document, whatever the status: see `redirect_status`."""
    return content_type.split(b";", 1)[0].strip().lower() == b"application/problem+json"


def error_of_silence() -> dict[str, Any]:
    """Return the document of an error event for an app that failed, or returned, without an answer."""
    return {"error": _error("the server failed to answer this message", "api_error", "internal_error")}


def _error(message: str, kind: str, code: str) -> dict[str, Any]:
    return {"message": message, "type": kind, "param": None, "code": code}


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        # What is no JSON must not get into the event: clients in JavaScript can not read it.
        found = json.loads(body, parse_constant=_null)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _null(_: str) -> None:
    return None
