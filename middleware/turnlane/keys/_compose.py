"""Extractors made of others.

How they combine is written once, as a generator that names the part to ask next and is sent its answer; one
driver asks with the scope alone, where that is all that every part needs, and one with the connection.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Generator
from dataclasses import dataclass
from urllib.parse import quote, unquote

from turnlane.errors import SessionKeyRequired
from turnlane.keys._contract import (
    Connection,
    KeyExtractor,
    Scope,
    ScopeExtractor,
    canonical,
    extract,
    is_scoped,
    needs_body,
    param_of,
    settle,
)
from turnlane.keys._scope import header

__all__ = ("first_of", "from_setting", "has_principal", "overridable", "principal_of_key", "scoped_by")

Asking = Generator[KeyExtractor, str | None, str | None]


class Plan(ABC):
    """How the parts of a composite are asked."""

    __slots__ = ()

    @abstractmethod
    def ask(self) -> Asking:
        """Yield a part, be sent what it said, and in the end return the key."""


@dataclass(frozen=True, slots=True)
class FirstOf(Plan):
    """See `first_of`."""

    parts: tuple[KeyExtractor, ...]

    def ask(self) -> Asking:
        """Ask one after the other until there is a key."""
        for part in self.parts:
            raw = yield part
            key = None if raw is None else canonical(raw, param_of(part))
            if key is not None:
                return key
        return None


@dataclass(frozen=True, slots=True)
class ScopedBy(Plan):
    """See `scoped_by`."""

    principal: KeyExtractor
    extractor: KeyExtractor

    def ask(self) -> Asking:
        """Ask for the key, then for whom."""
        raw = yield self.extractor
        key = None if raw is None else canonical(raw, param_of(self.extractor))
        if key is None:
            return None
        principal = yield self.principal
        if principal is None or not principal.strip():
            raise SessionKeyRequired("an authenticated principal")
        # The principal is quoted as it is, not made canonical: two that the server tells apart stay apart.
        return f"{quote(principal, safe='', errors='surrogatepass')}/{key}"


@dataclass(frozen=True, slots=True)
class CompositeOfScopes(ScopeExtractor):
    """A composite whose parts need the scope alone."""

    plan: Plan
    param: str
    scoped: bool

    def read(self, scope: Scope) -> str | None:
        """Return the key."""
        asking = self.plan.ask()
        try:
            part = next(asking)
            while True:
                if not isinstance(part, ScopeExtractor):
                    raise TypeError(f"{part!r} needs more than the scope")
                part = asking.send(part.read(scope))
        except StopIteration as end:
            return _ended(end)


@dataclass(frozen=True, slots=True)
class Composite:
    """A composite of any parts; it answers at once, without an awaitable, where its parts do."""

    plan: Plan
    param: str
    scoped: bool
    needs_body: bool

    def __call__(self, connection: Connection) -> str | Awaitable[str | None] | None:
        """Return the key."""
        asking = self.plan.ask()
        try:
            part = next(asking)
            while True:
                answer = part(connection)
                if answer is not None and not isinstance(answer, str):
                    return self._later(asking, part, answer, connection)
                part = asking.send(answer)
        except StopIteration as end:
            return _ended(end)

    async def _later(self, asking: Asking, part: KeyExtractor, answer: object, connection: Connection) -> str | None:
        settled = await settle(part, answer)
        try:
            while True:
                part = asking.send(settled)
                settled = await extract(part, connection)
        except StopIteration as end:
            return _ended(end)


def first_of(*extractors: str | KeyExtractor) -> KeyExtractor:
    """Take the session key from the first extractor, in the order given, that gives one; a blank one is none.

    The body is read only if an extractor is reached that needs it, so put the others before.

    Args:
        extractors: extractors, or strings that name headers.

    Raises:
        ValueError: there is none, or one is not an extractor.
    """
    if not extractors:
        raise ValueError("first_of needs at least one extractor")
    parts = tuple(from_setting(extractor) for extractor in extractors)
    param = " or ".join(dict.fromkeys(param_of(part) for part in parts))
    return _composite(FirstOf(parts), parts, param, scoped=all(is_scoped(part) for part in parts))


def scoped_by(principal: KeyExtractor, extractor: str | KeyExtractor) -> KeyExtractor:
    """Put the keys of each principal into a space of their own, so that a stranger can not name your lane.

    The key becomes `principal/key` with the principal percent-encoded: different pairs never give the same key.
    A request that names a session but has no principal is refused. The principal must be what the server
    authenticated; a header that the client writes itself protects nobody.

    Args:
        principal: a sync or async callable of the connection that returns for whom the request is made, or None.
        extractor: where the client's key comes from, or a string that names a header.

    Raises:
        ValueError: `principal` is not callable, or `extractor` is not an extractor.
    """
    if not callable(principal):
        raise ValueError(f"principal must be a callable of the connection, not {principal!r}")
    inner = from_setting(extractor)
    return _composite(ScopedBy(principal, inner), (principal, inner), param_of(inner), scoped=True)


def overridable(extractor: str | KeyExtractor, override: str | KeyExtractor) -> KeyExtractor:
    """Take the session key from `override` where the request gives one there, else from `extractor`.

    Args:
        extractor: where the key comes from normally, or a string that names a header.
        override: where another key may stand, or a string that names a header; asked first.

    Raises:
        ValueError: one of them is not an extractor.
    """
    return first_of(override, extractor)


def from_setting(key: str | KeyExtractor) -> KeyExtractor:
    """Return the extractor a setting stands for: a string is the name of a header.

    Raises:
        ValueError: it is blank or not the name of a header, or not callable.
    """
    if isinstance(key, str):
        return header(key)
    if not callable(key):
        raise ValueError(f"a session key comes from a header name or a callable of the connection, not {key!r}")
    return key


def has_principal(extractor: KeyExtractor) -> bool:
    """Tell whether every key `extractor` can give says for whom it is: see `principal_of_key`."""
    if not isinstance(extractor, CompositeOfScopes | Composite):
        return False
    plan = extractor.plan
    return isinstance(plan, ScopedBy) or (isinstance(plan, FirstOf) and all(map(has_principal, plan.parts)))


def principal_of_key(key: str) -> str:
    """Return for whom a key is that `scoped_by` has made."""
    return unquote(key.partition("/")[0], errors="surrogatepass")


def _composite(plan: Plan, parts: tuple[KeyExtractor, ...], param: str, *, scoped: bool) -> KeyExtractor:
    if all(isinstance(part, ScopeExtractor) for part in parts):
        return CompositeOfScopes(plan, param, scoped)
    return Composite(plan, param, scoped, any(needs_body(part) for part in parts))


def _ended(end: StopIteration) -> str | None:
    key: str | None = end.value
    return key
