"""What names a session: the contract of extractors, and the canonical form of a key."""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, MutableMapping
from inspect import isawaitable
from typing import Any, Protocol

from turnlane.errors import SessionKeyInvalid, SessionKeyRequired

__all__ = (
    "MAX_KEY_BYTES",
    "BodyExtractor",
    "Connection",
    "KeyExtractor",
    "Scope",
    "ScopeExtractor",
    "canonical",
    "extract",
    "is_scope_only",
    "is_scoped",
    "needs_body",
    "param_of",
    "require_key",
    "settle",
)

MAX_KEY_BYTES = 512
"""A session key is at most this long, in bytes of UTF-8."""

# Composing can make text shorter, but never by more than this factor; sorting a longer run of marks is quadratic.
MAX_RAW_CHARACTERS = 4 * MAX_KEY_BYTES
REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

Scope = MutableMapping[str, Any]


class Connection(Protocol):
    """What an extractor is called with: the ASGI scope, and the body for those who need it.

    `LaneMiddleware` passes an object that has more (`headers`, `query_params`, `cookies`), named as in Starlette.
    """

    @property
    def scope(self) -> Scope:
        """The ASGI scope of the request."""
        ...

    async def body(self) -> bytes:
        """Return the whole body.

        Raises:
            BodyTooLarge: the body is larger than the server reads for a session key.
        """
        ...


# The argument is a Connection; Any lets users annotate theirs with the request class of their framework.
KeyExtractor = Callable[[Any], str | Awaitable[str | None] | None]
"""Any sync or async callable of the connection that returns its session key, or None if it names none.

A callable counts as reading the body if it has a true attribute `needs_body`, and as safe from strangers (its
keys can not be chosen by another principal's client) if it has a true attribute `scoped`.
"""


class ScopeExtractor(ABC):
    """An extractor that needs the ASGI scope alone, so that the middleware can ask it without a task switch.

    `param` names the part of the request in errors.
    """

    __slots__ = ()

    param: str

    @abstractmethod
    def read(self, scope: Scope) -> str | None:
        """Return the key as the client wrote it, or None. Raises nothing but `RequestRefused` errors."""

    def key(self, scope: Scope) -> str | None:
        """Return the canonical key, or None. Raises nothing but `RequestRefused` errors."""
        raw = self.read(scope)
        return None if raw is None else canonical(raw, self.param)

    def __call__(self, connection: Connection) -> str | None:
        """Read the key of `connection`."""
        return self.read(connection.scope)


class BodyExtractor(ABC):
    """An extractor that needs the whole body. `param` names the part of the request in errors."""

    __slots__ = ()

    param: str
    needs_body = True

    @abstractmethod
    def parse(self, scope: Scope, body: bytes) -> str | None:
        """Return the key as the client wrote it, or None. Raises nothing but `RequestRefused` errors."""

    async def __call__(self, connection: Connection) -> str | None:
        """Read the key of `connection` from its body."""
        return self.parse(connection.scope, await connection.body())


async def extract(extractor: KeyExtractor, connection: Connection) -> str | None:
    """Return what `extractor` says of `connection`, waiting for it if it is async; not yet canonical.

    Raises:
        TypeError: it returned something else than text or None.
    """
    found = extractor(connection)
    return found if found is None or isinstance(found, str) else await settle(extractor, found)


async def settle(extractor: KeyExtractor, found: object) -> str | None:
    """Return what `extractor` promised, when it returned something else than text or None."""
    if isawaitable(found):
        found = await found
    if found is None or isinstance(found, str):
        return found
    raise TypeError(f"{extractor!r} must return a str or None, not {type(found).__name__}")


def needs_body(extractor: KeyExtractor) -> bool:
    """Tell whether `extractor` is known to read the body, at least sometimes."""
    return bool(getattr(extractor, "needs_body", False))


def is_scope_only(extractor: KeyExtractor) -> bool:
    """Tell whether `extractor` needs the ASGI scope alone and has a synchronous `read(scope)`."""
    return isinstance(extractor, ScopeExtractor)


def is_scoped(extractor: KeyExtractor) -> bool:
    """Tell whether every key `extractor` can give lies in the space of an authenticated principal."""
    return bool(getattr(extractor, "scoped", False))


def param_of(extractor: KeyExtractor) -> str:
    """Return the words that name the part of the request `extractor` reads."""
    param = getattr(extractor, "param", None)
    return param if isinstance(param, str) else "the part of the request this server reads it from"


def canonical(raw: str, param: str) -> str | None:
    """Return the one form of a session key under which it is looked up, or None if it is blank.

    Equal-looking keys are equal afterwards: Unicode NFC, no white space around. The canonical form of a canonical
    key is itself. It does not fold case, and it does not unify different letters that look alike.

    Args:
        raw: the key as the client wrote it.
        param: names the part of the request in errors.

    Raises:
        SessionKeyInvalid: longer than `MAX_KEY_BYTES`, or with a control character, a line or paragraph separator,
            half a surrogate pair or a control of text direction in it.
    """
    if raw.isascii() and raw.isprintable() and " " not in raw and 0 < len(raw) <= MAX_KEY_BYTES:
        return raw
    return _canonical_any(raw, param)


def require_key(key: object) -> str:
    """Return the canonical form of a session key that was given to a call.

    Raises:
        SessionKeyInvalid: it is no text, or as `canonical`.
        SessionKeyRequired: it is blank.
    """
    if not isinstance(key, str):
        raise SessionKeyInvalid("key", reason=f"it is {key!r}, not text")
    found = canonical(key, "key")
    if found is None:
        raise SessionKeyRequired("key")
    return found


def _canonical_any(raw: str, param: str) -> str | None:
    text = raw.strip()
    if not text:
        return None
    if len(text) > MAX_RAW_CHARACTERS:
        raise _too_long(param)
    text = unicodedata.normalize("NFC", text).strip()
    for character in text:
        if character in BIDI_CONTROLS or unicodedata.category(character) in REFUSED_CATEGORIES:
            raise SessionKeyInvalid(param, reason=f"it holds the character U+{ord(character):04X}")
    if len(text.encode()) > MAX_KEY_BYTES:
        raise _too_long(param)
    return text


def _too_long(param: str) -> SessionKeyInvalid:
    return SessionKeyInvalid(param, reason=f"it is longer than {MAX_KEY_BYTES} bytes")
