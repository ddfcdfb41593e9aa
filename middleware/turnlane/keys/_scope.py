"""Extractors that need the ASGI scope alone: header, query, path, cookie."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from turnlane.errors import SessionKeyInvalid
from turnlane.keys._contract import MAX_KEY_BYTES, Scope, ScopeExtractor, canonical

__all__ = (
    "content_type",
    "cookie",
    "header",
    "path",
    "query",
    "raw_headers",
    "require_text",
    "route_path",
    "single",
    "urlencoded_values",
)

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
PATH_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_FIELDS = 1000


@dataclass(frozen=True, slots=True)
class HeaderExtractor(ScopeExtractor):
    """See `header`."""

    name: bytes
    param: str

    def read(self, scope: Scope) -> str | None:
        """Return the header's value."""
        found = None
        for name, value in raw_headers(scope):
            if name == self.name:
                if found is not None and value != found:
                    raise self._ambiguous()
                found = value
        return None if found is None else self._text(found)

    def key(self, scope: Scope) -> str | None:
        """Return the header's value in canonical form: `canonical(read(scope))`, flat, since each request asks."""
        wanted = self.name
        found = None
        headers = scope.get("headers", ())
        for name, value in headers if headers.__class__ is list else raw_headers(scope):
            if name == wanted:
                if found is not None and value != found:
                    raise self._ambiguous()
                found = value
        if found is None:
            return None
        if found.isascii():
            text = found.decode()
            if text.isprintable() and " " not in text and 0 < len(text) <= MAX_KEY_BYTES:
                return text
        return canonical(self._text(found), self.param)

    def _text(self, value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise SessionKeyInvalid(self.param, reason="it is neither ASCII nor UTF-8") from None

    def _ambiguous(self) -> SessionKeyInvalid:
        return SessionKeyInvalid(self.param, reason="it is given more than once, with different values")


@dataclass(frozen=True, slots=True)
class QueryExtractor(ScopeExtractor):
    """See `query`."""

    name: str
    param: str

    def read(self, scope: Scope) -> str | None:
        """Return the parameter's value."""
        given: bytes = scope.get("query_string") or b""
        return single(urlencoded_values(given, self.name, self.param), self.param) if given else None


@dataclass(frozen=True, slots=True)
class PathExtractor(ScopeExtractor):
    """See `path`. `segments` holds each literal segment, and None where a named one stands."""

    segments: tuple[str | None, ...]
    param: str

    def read(self, scope: Scope) -> str | None:
        """Return the named segments, joined with a slash."""
        found: list[str] = []
        segments = route_path(scope).split("/")
        if len(segments) != len(self.segments):
            return None
        for literal, segment in zip(self.segments, segments, strict=True):
            if literal is None:
                if not segment:
                    return None
                found.append(segment)
            elif literal != segment:
                return None
        return "/".join(found)


@dataclass(frozen=True, slots=True)
class CookieExtractor(ScopeExtractor):
    """See `cookie`."""

    name: bytes
    param: str

    def read(self, scope: Scope) -> str | None:
        """Return the cookie's value."""
        found = single(self._values(scope), self.param)
        if found is None:
            return None
        if len(found) >= 2 and found[0] == found[-1] == '"':
            found = found[1:-1]
        if "\\" in found:
            raise SessionKeyInvalid(self.param, reason="it holds a backslash, which no cookie may")
        return found

    def _values(self, scope: Scope) -> Iterator[str]:
        for name, value in raw_headers(scope):
            if name == b"cookie":
                for pair in value.split(b";"):
                    key, equals, text = pair.partition(b"=")
                    if equals and key.strip(b" \t") == self.name:
                        yield text.strip(b" \t").decode("utf-8", "surrogateescape")


def header(name: str) -> ScopeExtractor:
    """Take the session key from the request header `name`.

    The same header twice with different values is refused, since the app might see the other one.

    Raises:
        ValueError: `name` is not the name of a header.
    """
    _require_token(name, "header")
    return HeaderExtractor(name.lower().encode("ascii"), f"header {name.lower()}")


def query(name: str) -> ScopeExtractor:
    """Take the session key from the parameter `name` of the query string, percent-decoded as UTF-8.

    The same parameter twice with different values is refused, and so is a query string of over 1000 fields.

    Raises:
        ValueError: `name` is blank.
    """
    require_text(name)
    if not name.strip():
        raise ValueError("the name of a query parameter must not be blank")
    return QueryExtractor(name, f"query parameter {name}")


def path(template: str) -> ScopeExtractor:
    """Take the session key from the path: `path("/sessions/{session_id}/messages")`.

    The template is compared as routes are written, with the decoded `path` of the scope without its `root_path`,
    segment by segment and to the end. With several named segments the key is all of them, joined with a slash.
    It does not match a path that the server would only redirect to, such as one with a slash more at its end.

    Raises:
        ValueError: `template` does not begin with a slash, has no named segment, or one that is not `{name}`.
    """
    require_text(template)
    if not template.startswith("/"):
        raise ValueError(f"a path template must begin with a slash: {template!r}")
    names: list[str] = []
    segments: list[str | None] = []
    for segment in template.split("/"):
        if segment.startswith("{") and segment.endswith("}") and PATH_NAME.fullmatch(segment[1:-1]):
            names.append(segment[1:-1])
            segments.append(None)
        elif "{" in segment or "}" in segment:
            raise ValueError(f"a named segment of a path template is written {{name}} and stands alone: {segment!r}")
        else:
            segments.append(segment)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"a path template needs one or more segments of different names: {template!r}")
    return PathExtractor(tuple(segments), f"path {template}")


def cookie(name: str) -> ScopeExtractor:
    """Take the session key from the cookie `name`.

    The same cookie twice with different values is refused. Quotes around the value are taken off; nothing else is
    decoded.

    Raises:
        ValueError: `name` is not the name of a cookie.
    """
    _require_token(name, "cookie")
    return CookieExtractor(name.encode("ascii"), f"cookie {name}")


def single(values: Iterable[str], param: str) -> str | None:
    """Return the one value there is, or None; different values are refused as ambiguous."""
    found: str | None = None
    for value in values:
        if found is not None and value != found:
            raise SessionKeyInvalid(param, reason="it is given more than once, with different values")
        found = value
    return found


def urlencoded_values(data: bytes, name: str, param: str) -> Iterator[str]:
    """Yield the values of the field `name`; bytes that are not UTF-8 become surrogates, which no key may hold."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        fields = parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise SessionKeyInvalid(param, reason=f"there are more than {MAX_FIELDS} fields") from None
    return (value for key, value in fields if key == name)


def raw_headers(scope: Scope) -> Sequence[tuple[bytes, bytes]]:
    """Return the headers; an iterable that could be read only once is replaced in the scope by a list."""
    headers: Iterable[tuple[bytes, bytes]] = scope.get("headers", ())
    if isinstance(headers, list | tuple):
        return headers
    scope["headers"] = kept = list(headers)
    return kept


def content_type(scope: Scope) -> bytes:
    """Return the value of the content-type header, empty if there is none."""
    for name, value in raw_headers(scope):
        if name == b"content-type":
            return value
    return b""


def route_path(scope: Scope) -> str:
    """Return the decoded path without the `root_path` it is mounted at."""
    full: str = scope.get("path") or ""
    root: str = scope.get("root_path") or ""
    if root and full.startswith(root) and (full == root or full[len(root)] == "/"):
        return full[len(root) :]
    return full


def require_text(name: object) -> None:
    """Raise ValueError unless `name` is text."""
    if not isinstance(name, str):
        raise ValueError(f"a name must be text, not {name!r}")


def _require_token(name: str, what: str) -> None:
    require_text(name)
    if not TOKEN.fullmatch(name):
        raise ValueError(f"not the name of a {what}: {name!r}")
