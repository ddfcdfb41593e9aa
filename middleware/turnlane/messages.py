"""Messages of requests and calls, and ready ways to make one of several.

A `merge` for `Coalesce` gets messages in the order of their arrival; the newest is the last, and its turn carries the
result. What can not be merged raises `ValueError`, with which the turn of the newest fails; each of the others then
becomes a turn of its own.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

__all__ = ("HttpMessage", "joined", "openai_chat", "openai_responses")


@dataclass(frozen=True, slots=True)
class HttpMessage:
    """The body of a request, as it was sent.

    Attributes:
        body: its bytes.
        content_type: what the client says it is; "" where it says nothing.
    """

    body: bytes
    content_type: str = ""


def openai_chat(messages: Sequence[HttpMessage]) -> HttpMessage:
    """Merge requests to `/v1/chat/completions`: the newest one, with the `messages` of all.

    What two requests have in common at their beginning (a system message, the history) stands there once. A request
    that brings nothing new was sent twice on purpose: its last message stands there twice.

    Raises:
        ValueError: a body is not such a request.
    """
    bodies = [_object(message) for message in messages]
    return _with(messages[-1], bodies[-1], "messages", _gathered([_listed(body, "messages") for body in bodies]))


def openai_responses(messages: Sequence[HttpMessage]) -> HttpMessage:
    """Merge requests to `/v1/responses`: the newest one, with the `input` of all, as `openai_chat` does.

    Raises:
        ValueError: a body is not such a request.
    """
    bodies = [_object(message) for message in messages]
    inputs: list[list[Any]] = []
    for body in bodies:
        given = body.get("input")
        inputs.append([{"role": "user", "content": given}] if isinstance(given, str) else _listed(body, "input"))
    return _with(messages[-1], bodies[-1], "input", _gathered(inputs))


def joined(name: str, separator: str = "\n\n") -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]:
    """Merge calls of an `agent_turn` function: the newest one, with the argument `name` of all.

    Text is joined by `separator`, lists one after the other.

    Args:
        name: of an argument that is text or a list in each call.
        separator: what stands between texts.

    Raises:
        ValueError: an argument is no text; by the merge, where a call has no such argument, or it is neither, or not
            the same in all.
    """
    for argument, given in (("name", name), ("separator", separator)):
        if not isinstance(cast("object", given), str):
            raise ValueError(f"{argument} must be text, not {given!r}")
    return _Joined(name, separator)


@dataclass(frozen=True, slots=True)
class _Joined:
    """A merge that is known by what it does, in another process too."""

    name: str
    separator: str

    def __call__(self, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        values = [message.get(self.name) for message in messages]
        if all(isinstance(value, str) for value in values):
            merged: object = self.separator.join(cast("list[str]", values))
        elif all(isinstance(value, list) for value in values):
            merged = [item for value in cast("list[list[Any]]", values) for item in value]
        else:
            raise ValueError(f"argument {self.name!r} is neither text in each call nor a list in each call")
        return {**messages[-1], self.name: merged}


def _object(message: HttpMessage) -> dict[str, Any]:
    try:
        found = json.loads(message.body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a body that is not JSON can not be merged: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("a body that is not a JSON object can not be merged")
    return cast("dict[str, Any]", found)


def _listed(body: dict[str, Any], name: str) -> list[Any]:
    found: list[Any] = body.get(name, [])  # or whatever else the client sent
    if not isinstance(found, list) or not found:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"a body whose {name!r} is no list of messages can not be merged")
    return found


def _gathered(lists: list[list[Any]]) -> list[Any]:
    gathered = list(lists[0])
    for number, entries in enumerate(lists[1:], start=1):
        # What begins as any earlier request did stands there already, and so does what begins as the result does.
        common = max(_common(entries, earlier) for earlier in (gathered, *lists[:number]))
        gathered += entries[common:] or entries[-1:]
    return gathered


def _common(one: list[Any], other: list[Any]) -> int:
    """Return how many entries two lists have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (mine, others) in pairs if mine != others), min(len(one), len(other)))


def _with(newest: HttpMessage, body: dict[str, Any], name: str, entries: list[Any]) -> HttpMessage:
    # In ASCII: half a surrogate pair, which clients that cut text send as an escape, has no bytes of its own.
    return replace(newest, body=json.dumps({**body, name: entries}).encode())
