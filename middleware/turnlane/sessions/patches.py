"""Changes of an entry: recorded without it, applied to the fresh entry inside the store's transaction.

Nothing in here can carry a value from an old snapshot into a new entry unless the user assigned it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal, TypeVar

from turnlane.errors import SessionConflict
from turnlane.sessions.entry import Session, SessionEntry
from turnlane.sessions.values import frozen_value, is_blank, same_value

__all__ = ("DELETE", "UNSET", "Draft", "Marker", "Operation", "Patch", "operations_of")

_D = TypeVar("_D")

PROTECTED: Final = frozenset({"created_at", "id", "is_new", "key", "last_activity_at", "updated_at", "version"})


class Marker(Enum):
    """The two words a patch knows beside values."""

    UNSET = "UNSET"
    DELETE = "DELETE"

    def __repr__(self) -> str:
        return self.value


UNSET: Final = Marker.UNSET
"""In a patch: this field stays as it is, as if it were not named."""
DELETE: Final = Marker.DELETE
"""In a patch: this field is removed; it is no error if there is none."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One step: put `value` under `name`, or remove it (`DELETE`); `only_if_blank` is setdefault."""

    name: str
    value: object
    only_if_blank: bool = False

    def apply(self, fields: dict[str, object]) -> None:
        """Change `fields`."""
        if self.value is DELETE:
            fields.pop(self.name, None)
        elif not self.only_if_blank or is_blank(fields.get(self.name)):
            fields[self.name] = self.value


def operations_of(changes: Mapping[str, object]) -> tuple[Operation, ...]:
    """Return the steps of `Sessions.patch`.

    Raises:
        ValueError: a name is not patchable, or a value is not JSON.
    """
    return tuple(_operation(name, value) for name, value in changes.items() if value is not UNSET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """The function of the fresh entry that a store runs in its transaction. It is pure and can be run again.

    Attributes:
        operations: steps, in order.
        pins: what was read, by field name: the value, or `UNSET` where there was none.
        expected_version: the version the entry must have, None for any.
        at: when, in seconds since the epoch.
    """

    operations: tuple[Operation, ...]
    pins: Mapping[str, object]
    expected_version: int | None
    at: float

    def __call__(self, fresh: SessionEntry) -> SessionEntry:
        """Return the changed entry, or `fresh` itself if every field already is as wanted.

        Raises:
            SessionConflict: the version is another one, or a pinned field has changed.
        """
        self._prove(fresh)
        fields = dict(fresh.fields)
        for operation in self.operations:
            operation.apply(fields)
        if _same_fields(fields, fresh.fields):
            return fresh
        return replace(
            fresh,
            version=fresh.version + 1,
            fields=MappingProxyType(fields),
            updated_at=max(fresh.updated_at, self.at),
        )

    def _prove(self, fresh: SessionEntry) -> None:
        expected = self.expected_version
        changed = tuple(name for name, value in self.pins.items() if not _same(fresh.fields.get(name, UNSET), value))
        if changed or (expected is not None and expected != fresh.version):
            raise SessionConflict(
                fresh.key, expected_version=expected, found_version=fresh.version, fields=tuple(sorted(changed))
            )


class Draft:
    """Records what is to change in a session; made by `Sessions.edit`, stored when its block ends.

    Assigning, deleting and `setdefault` read nothing. Reading a field (`draft[name]`, `get`, `in`) pins it: if it is
    another one by the time of storing, nothing is stored and `SessionConflict` names it. A field this draft
    assigned or deleted before reads as that and is not pinned.

    Values are copied when they are assigned and frozen when they are read: change one by assigning a new one.

    Mutable: `_operations` and `_pins` until the block ends, then only `session`.
    """

    __slots__ = ("_base", "_open", "_operations", "_pins", "session")

    __iter__ = None  # reading by position would be taken for reading a field

    def __init__(self, base: SessionEntry) -> None:
        self._base = base
        self._open = True
        self._operations: list[Operation] = []
        self._pins: dict[str, object] = {}
        self.session: Session | None = None
        """The session as it was stored; None until the block has ended without an error."""

    def __repr__(self) -> str:
        state = "open" if self._open else "ended"
        return f"<Draft {state} key={self._base.key!r} changes={len(self._operations)} pinned={sorted(self._pins)}>"

    def __setitem__(self, name: str, value: object) -> None:
        """Put a JSON value under `name`; `UNSET` does nothing and `DELETE` removes it, as in a patch."""
        operation = _operation(name, value)
        if value is not UNSET:
            self._record(operation)

    def __delitem__(self, name: str) -> None:
        """Remove a field; it is no error if the fresh entry has none."""
        self._record(_operation(name, DELETE))

    def setdefault(self, name: str, value: object) -> None:
        """Put `value` under `name` if the fresh entry has nothing there when the block ends.

        None, and text that is empty or white space, count as nothing. It returns nothing because what will be there
        is not known yet.
        """
        self._record(Operation(_checked_name(name), frozen_value(value, name), only_if_blank=True))

    def __getitem__(self, name: str) -> object:
        """Read a field and pin it. Raises KeyError where there is none."""
        value = self._read(name)
        if value is UNSET:
            raise KeyError(name)
        return value

    def get(self, name: str, default: _D | None = None) -> object | _D | None:
        """Read a field and pin it; return `default` where there is none."""
        value = self._read(name)
        return default if value is UNSET else value

    def __contains__(self, name: str) -> bool:
        """Tell whether there is such a field, and pin it."""
        return self._read(name) is not UNSET

    def end(self) -> None:
        """Record nothing more."""
        self._open = False

    def patch(self, *, expected_version: int | None, at: float) -> Patch:
        """Return what the draft recorded."""
        return Patch(
            operations=tuple(self._operations), pins=dict(self._pins), expected_version=expected_version, at=at
        )

    def _record(self, operation: Operation) -> None:
        if not self._open:
            raise RuntimeError(f"the block of this draft has ended: {self!r}")
        self._operations.append(operation)

    def _read(self, name: str) -> object | Literal[Marker.UNSET]:
        base = self._base.fields.get(_checked_name(name), UNSET)
        steps = [operation for operation in self._operations if operation.name == name]
        if all(step.only_if_blank for step in steps):
            self._pins.setdefault(name, base)
        fields: dict[str, object] = {} if base is UNSET else {name: base}
        for step in steps:
            step.apply(fields)
        return fields.get(name, UNSET)


def _operation(name: str, value: object) -> Operation:
    _checked_name(name)
    return Operation(name, value if isinstance(value, Marker) else frozen_value(value, name))


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"the name of a session field must be text that is not blank, not {name!r}")
    if name in PROTECTED:
        raise ValueError(f"{name} of a session is not a field and can not be patched")
    frozen_value(name, "the name of a session field")
    return name


def _same(left: object, right: object) -> bool:
    if left is UNSET or right is UNSET:
        return left is right
    return same_value(left, right)


def _same_fields(left: Mapping[str, object], right: Mapping[str, object]) -> bool:
    return left.keys() == right.keys() and all(same_value(left[name], right[name]) for name in left)
