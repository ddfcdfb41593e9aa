"""Numbers that users give, checked where they are given."""

import math

__all__ = ("days", "optional_count", "optional_seconds", "seconds")


def seconds(name: str, value: object, *, above_zero: bool = False) -> float:
    """Return a number of seconds as a float.

    Raises:
        ValueError: it is no int or float, below zero (or zero), not a number, or too large for one.
    """
    return _number(name, value, "seconds", above_zero=above_zero)


def days(name: str, value: object) -> float:
    """Return a number of days as a float.

    Raises:
        ValueError: as for `seconds`.
    """
    return _number(name, value, "days", above_zero=False)


def _number(name: str, value: object, unit: str, *, above_zero: bool) -> float:
    try:
        found = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        found = math.nan
    if not (found > 0 if above_zero else found >= 0):
        what = f"a positive number of {unit}" if above_zero else f"a number of {unit}, at least 0"
        raise ValueError(f"{name} must be {what}, not {_shown(value)}")
    return found


def optional_seconds(name: str, value: object, *, above_zero: bool = False) -> float | None:
    """Return a number of seconds as a float, or None, which stands for no limit.

    Raises:
        ValueError: as for `seconds`.
    """
    return None if value is None else seconds(name, value, above_zero=above_zero)


def optional_count(name: str, value: object, *, least: int) -> int | None:
    """Return a number of things, or None, which stands for no limit.

    Raises:
        ValueError: it is no int, or below `least`.
    """
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an int, at least {least}, or None, not {_shown(value)}")
    return value


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python writes
        return f"a {type(value).__name__} of too many digits"
    return text if len(text) <= 60 else f"{text[:60]}..."
