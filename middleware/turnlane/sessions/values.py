"""What a field may hold: JSON, deeply frozen."""

import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast

__all__ = ("NOTHING", "frozen_fields", "frozen_value", "is_blank", "same_value", "thaw", "to_json")

NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
"""No fields."""

# Deeper values are either cyclic or would exhaust the stack of whoever reads them back.
MAX_DEPTH = 64
# Longer integers are beyond what JSON readers, Python's included, accept back.
MAX_INTEGER_BITS = 1024


def frozen_value(value: object, path: str) -> object:
    """Return a deeply frozen copy of a JSON value: mappings as `MappingProxyType`, lists and tuples as tuples.

    Args:
        value: None, a bool, int, finite float, str, or a list, tuple or mapping (of str) of such.
        path: names the place of the value in errors.

    Raises:
        ValueError: it, or something in it, is not JSON; the message names the place.
    """
    return _frozen(value, path, MAX_DEPTH)


def frozen_fields(fields: Mapping[str, object]) -> Mapping[str, object]:
    """Return a deeply frozen copy of the fields of an entry.

    Raises:
        ValueError: as for `frozen_value`.
    """
    return MappingProxyType({name: frozen_value(value, name) for name, value in fields.items()})


def thaw(value: object) -> object:
    """Return a copy of a frozen value in plain dictionaries and lists."""
    if isinstance(value, Mapping):
        return {name: thaw(inner) for name, inner in cast("Mapping[str, object]", value).items()}
    if isinstance(value, tuple):
        return [thaw(inner) for inner in cast("tuple[object, ...]", value)]
    return value


def to_json(value: object) -> str:
    """Return a frozen value as JSON text."""
    return json.dumps(value, default=dict, allow_nan=False, separators=(",", ":"))


def same_value(left: object, right: object) -> bool:
    """Tell whether two frozen values are the same JSON. Unlike `==` it tells 1, 1.0 and true apart."""
    return left is right or _comparable(left) == _comparable(right)


def is_blank(value: object) -> bool:
    """Tell whether a value counts as not given: None, or text of nothing but white space."""
    return value is None or (isinstance(value, str) and not value.strip())


def _comparable(value: object) -> str:
    return json.dumps(value, default=dict, sort_keys=True)


def _frozen(value: object, path: str, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, int):
        if value.bit_length() > MAX_INTEGER_BITS:
            raise ValueError(f"{path} is an integer of more than {MAX_INTEGER_BITS} bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path} is {value!r}, which JSON does not know")
        return float(value)
    if depth == 0:
        raise ValueError(f"{path} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return _mapping(cast("Mapping[object, object]", value), path, depth)
    if isinstance(value, (list, tuple)):
        items = enumerate(cast("list[object] | tuple[object, ...]", value))
        return tuple(_frozen(item, f"{path}[{position}]", depth - 1) for position, item in items)
    raise ValueError(f"{path} is a {type(value).__name__}, which is not JSON")


def _mapping(value: Mapping[object, object], path: str, depth: int) -> Mapping[str, object]:
    frozen: dict[str, object] = {}
    for name, inner in value.items():
        if not isinstance(name, str):
            raise ValueError(f"{path} has the key {name!r}, and JSON knows text keys only")
        frozen[_text(name, f"a key of {path}")] = _frozen(inner, f"{path}.{name}", depth - 1)
    return MappingProxyType(frozen)


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path} holds half a surrogate pair, which UTF-8 does not know") from None
    return str.__str__(value)
