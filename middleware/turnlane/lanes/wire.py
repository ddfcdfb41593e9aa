"""Messages and what names them, as bytes another process can read: what an engine carries from worker to worker."""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, cast

from turnlane.duplicates.contract import Answer
from turnlane.messages import HttpMessage
from turnlane.turns.talk import Shared

__all__ = ("Unportable", "decoded", "digest", "encoded")

BYTES, TUPLE, HTTP, ANSWER, SHARED = "~bytes", "~tuple", "~http", "~answer", "~shared"
PLAIN = (str, int, float, bool, type(None))


class Unportable(Exception):
    """Something that only this process knows."""


def encoded(value: object) -> bytes:
    """Return a message, or a result, as bytes.

    Raises:
        Unportable: it is not made of what JSON can hold, bytes, tuples, `HttpMessage` and responses.
    """
    try:
        return json.dumps(_packed(value), separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise Unportable(str(error)) from None


def decoded(data: bytes) -> Any:
    """Return what was encoded.

    Raises:
        Unportable: it is nothing that `encoded` makes.
    """
    try:
        return _unpacked(json.loads(data))
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise Unportable(str(error)) from None


def digest(*values: object) -> str:
    """Return a short text that is the same in every process for values that are the same.

    Functions and classes are known by their names, dataclasses by their fields.

    Raises:
        Unportable: one of them is known to this process alone.
    """
    return hashlib.blake2b(repr([_named(value) for value in values]).encode(), digest_size=16).hexdigest()


def _packed(value: object) -> object:
    match value:
        case HttpMessage(body=body, content_type=content_type):
            return {HTTP: [b64encode(body).decode(), content_type]}
        case Answer(status=status, headers=headers, body=body):
            return {ANSWER: [status, _packed(headers), _packed(body)]}
        case Shared(value=shared):
            return {SHARED: _packed(shared)}
        case bytes():
            return {BYTES: b64encode(value).decode()}
        case tuple():
            return {TUPLE: [_packed(each) for each in cast("tuple[object, ...]", value)]}
        case list():
            return [_packed(each) for each in cast("list[object]", value)]
        case dict():
            found = cast("dict[object, object]", value)
            if any(not isinstance(name, str) or name.startswith("~") for name in found):
                raise Unportable(f"it has the names {list(found)!r}")
            return {cast("str", name): _packed(each) for name, each in found.items()}
        case _ if type(value) in PLAIN:
            return value
        case _:
            raise Unportable(f"it is, or holds, a {type(value).__name__}")


def _unpacked(value: object) -> Any:
    if isinstance(value, list):
        return [_unpacked(each) for each in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    found = cast("dict[str, Any]", value)
    match found:
        case {"~http": [body, content_type]}:
            return HttpMessage(b64decode(body), content_type)
        case {"~answer": [status, headers, body]}:
            return Answer(status=status, headers=_unpacked(headers), body=_unpacked(body))
        case {"~shared": shared}:
            return Shared(_unpacked(shared))
        case {"~bytes": data}:
            return b64decode(data)
        case {"~tuple": items}:
            return tuple(_unpacked(each) for each in items)
        case _:
            return {name: _unpacked(each) for name, each in found.items()}


def _named(value: object) -> object:
    if value is None or isinstance(value, str | bytes | int | float | bool):
        return type(value).__name__, value
    if isinstance(value, tuple | list):
        return [_named(each) for each in cast("tuple[object, ...]", value)]
    if isinstance(value, Mapping):
        found = cast("Mapping[object, object]", value)
        return {str(name): _named(each) for name, each in found.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__qualname__, [_named(getattr(value, field.name)) for field in fields(value)]
    return _name_of(value)


def _name_of(value: object) -> tuple[str, str]:
    named = cast("Callable[..., object]", getattr(value, "function", value))  # of what stands for a turn function
    module, name = getattr(named, "__module__", None), getattr(named, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        raise Unportable(f"{value!r} has no name another process would know")
    return module, name
