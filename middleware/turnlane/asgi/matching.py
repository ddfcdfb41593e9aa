"""Which requests a setting speaks of: by path, by pattern, or by asking a callable."""

import re
from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import Any, cast

from starlette.requests import HTTPConnection

from turnlane.keys import route_path

__all__ = ("Matcher", "Matchers", "matchers_from_setting", "matches")

# The argument is an HTTPConnection; Any lets users annotate theirs with the request class of their framework.
Matcher = str | re.Pattern[str] | Callable[[Any], bool | Awaitable[bool]]
Matchers = tuple[Matcher, ...]


def matchers_from_setting(setting: Matcher | Iterable[Matcher] | None, name: str) -> Matchers | None:
    """Return the matchers a setting stands for, or None for None.

    Raises:
        ValueError: one of them is none; the message calls the setting `name`.
    """
    if setting is None:
        return None
    alone = isinstance(setting, str | re.Pattern) or callable(setting)
    if not alone and not isinstance(setting, Iterable):
        raise ValueError(f"{name} takes paths, compiled patterns and callables of the connection, not {setting!r}")
    matchers = (cast("Matcher", setting),) if alone else tuple(cast("Iterable[Matcher]", setting))
    for matcher in matchers:
        if isinstance(matcher, str):
            if not matcher.startswith("/"):
                raise ValueError(f"a path in {name} must begin with a slash: {matcher!r}")
        elif not isinstance(matcher, re.Pattern) and not callable(matcher):
            raise ValueError(f"{name} takes paths, compiled patterns and callables of the connection, not {matcher!r}")
    return matchers


async def matches(matchers: Matchers, connection: HTTPConnection) -> bool:
    """Tell whether one of the matchers fits; they are asked in order.

    Text fits the path it names and everything below it, segment by segment; a pattern is searched for in the path.
    The path is the decoded one, without what the app is mounted at.
    """
    path = route_path(connection.scope)
    for matcher in matchers:
        if isinstance(matcher, str):
            prefix = matcher.rstrip("/")
            found: object = path in (matcher, prefix) or path.startswith(f"{prefix}/")
        elif isinstance(matcher, re.Pattern):
            found = matcher.search(path)
        else:
            found = matcher(connection)
            if isawaitable(found):
                found = await found
        if found:
            return True
    return False
