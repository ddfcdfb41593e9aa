"""The base of all errors."""

from typing import Any, TypeVar

__all__ = ("NotConfigured", "TurnlaneError")

_E = TypeVar("_E", bound=BaseException)


def _restore(cls: type[_E], args: tuple[Any, ...], facts: dict[str, Any]) -> _E:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class TurnlaneError(Exception):
    """Base of every error this package raises on purpose, invalid arguments (`ValueError`) aside."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Leaves take their facts by keyword, which the inherited `cls(*args)` could not repeat.
        return _restore, (type(self), self.args, self.__dict__.copy())


class NotConfigured(TurnlaneError, RuntimeError):
    """A part of the runtime was used that nobody configured or opened; the message says what to add."""
