"""Requests as an ASGI server hands them over: good ones, odd ones, and ones that break off."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import unquote_to_bytes

from support import fuzz_bytes

__all__ = ("Drawn", "Pair", "draw_again", "draw_request", "in_form")

Pair = tuple[bytes, bytes]

LENGTHS: tuple[bytes, ...] = (
    b"0",
    b"1",
    b"-1",
    b"+5",
    b"",
    b" 7",
    b"7 ",
    b"1e3",
    b"0x10",
    b"1_000",
    b"7, 7",
    b"seven",
    b"\xb2",
    "\uff11\uff12".encode(),
    "\u0661".encode(),
    b"9" * 18,
    b"9" * 19,
    b"9" * 20,
    b"9" * 5_000,
    b"\0",
)
PATHS = (
    "/s",
    "/s/",
    "/chat/completions",
    "/",
    "",
    "*",
    "//",
    "/status",
    "/status/x",
    "/statusx",
    "/a/b",
    "/a/b/c",
    "s/x",
)
ROOTS = ("", "", "", "/", "/s", "/api", "/api/", "api", "/other")
METHODS = ("post", "Post", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "", "P\0ST", "PROPFIND")
EXTENSIONS: tuple[dict[str, dict[str, str]] | None, ...] = ({}, None, {"http.response.pathsend": {}})
USERS = (b"alice", b"alice", b"bob", b"", b" ", b"a/b", b"\xff", "\u00e9".encode())


@dataclass(slots=True)
class Drawn:
    """One request.

    `script` holds what `receive` returns, in order; it ends with the body, or with a disconnect where the client leaves
    before that (`cut`). `body` is what the script has of it. The scope is made anew by `scope()`, since headers may be
    an iterable that can be read once.
    """

    fields: dict[str, Any]
    headers: tuple[Pair, ...] | None
    form: str
    script: list[dict[str, Any]]
    body: bytes
    cut: bool

    def scope(self) -> dict[str, Any]:
        """Return the scope as the server makes it, with headers in one of the forms that the specification allows."""
        scope = self.fields.copy()
        if self.headers is not None:
            scope["headers"] = in_form(self.headers, self.form)
        if "state" in scope:
            scope["state"] = dict(scope["state"])
        return scope

    def plain_scope(self) -> dict[str, Any]:
        """Return the same scope with a list of headers, for a second opinion."""
        return {**self.fields, "headers": list(self.headers or ())}


def draw_request(rng: Random, kind: str) -> Drawn:
    """Return a request; `kind` is where its session key is likely to be: scope, json or form."""
    content_type, body = _body(rng, kind)
    headers: list[Pair] = [] if content_type is None else [(b"content-type", content_type)]
    _add_headers(rng, headers, len(body))
    if rng.random() < 0.3:
        rng.shuffle(headers)
    fields = _fields(rng)
    drawn = Drawn(fields, tuple(headers), rng.choice(("list", "list", "lists", "tuple", "generator")), [], body, False)
    if not headers and rng.random() < 0.5:
        drawn.headers = None
    _cut_up(rng, drawn, body)
    return drawn


def draw_again(rng: Random, drawn: Drawn) -> Drawn:
    """Return the same request once more, in other pieces, from a client that may leave elsewhere."""
    whole = b"".join(message.get("body", b"") for message in drawn.script)
    again = Drawn(dict(drawn.fields), drawn.headers, drawn.form, [], whole, False)
    _cut_up(rng, again, whole)
    return again


def _body(rng: Random, kind: str) -> tuple[bytes | None, bytes]:
    if rng.random() < 0.25:
        kind = rng.choice(("scope", "json", "form"))
    if kind == "json":
        return rng.choice((b"application/json", b"application/json", None, b"text/plain")), fuzz_bytes.json_body(rng)
    if kind == "form":
        return fuzz_bytes.form_body(rng)
    return None, fuzz_bytes.other_body(rng)


def _add_headers(rng: Random, headers: list[Pair], length: int) -> None:
    chance = rng.random
    for name in (b"x-key", b"x-session-key", b"x-openclaw-session-key"):
        if chance() < 0.4:
            headers.append((name, fuzz_bytes.draw_key(rng)))
            if chance() < 0.1:
                headers.append((name, headers[-1][1] if chance() < 0.5 else fuzz_bytes.draw_key(rng)))
    if chance() < 0.2:
        headers.append((b"x-session-id", fuzz_bytes.draw_key(rng)))
    if chance() < 0.5:
        headers.append((b"x-user", rng.choice(USERS)))
    if chance() < 0.35:
        headers.append((b"cookie", _cookie(rng)))
    headers += _lengths(rng, length)
    if chance() < 0.3:
        names = (b"", b"X-Key", b"Content-Length", b"COOKIE", b"x-\xff", b"x key", b"x\r\n", b"\0", b"x-other")
        headers += [(rng.choice(names), fuzz_bytes.noise(rng)) for _ in range(rng.choice((1, 2, 5)))]
    if chance() < 0.002:
        headers += [(b"x-many", b"%d" % number) for number in range(3000)]


def _cookie(rng: Random) -> bytes:
    pairs = [rng.choice((b"s", b"s", b"a", b"", b" s ", b"S")) + rng.choice((b"=", b"=", b"=", b"", b" = "))]
    pairs[0] += fuzz_bytes.draw_key(rng)
    if rng.random() < 0.3:
        pairs.append(rng.choice((b"s=agent:main:alice", b's="agent:main:alice"', b's="', b"s=\\", b"=", b"")))
    return rng.choice((b"; ", b";", b",", b";;")).join(pairs)


def _lengths(rng: Random, length: int) -> list[Pair]:
    found = [b"%d" % length if rng.random() < 0.6 else _length(rng, length)] if rng.random() < 0.5 else []
    if found and rng.random() < 0.05:
        found.append(_length(rng, length))
    return [(b"content-length", value) for value in found]


def _length(rng: Random, length: int) -> bytes:
    if rng.random() < 0.4:
        return b"%d" % max(0, length + rng.choice((-1, 1, -10, 10, 100, 10_000, 2**21)))
    return rng.choice(LENGTHS)


def _fields(rng: Random) -> dict[str, Any]:
    chance = rng.random
    fields: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST" if chance() < 0.95 else rng.choice(METHODS),
        "scheme": "http",
    }
    root = rng.choice(ROOTS)
    path = _path(rng)
    if chance() < 0.7:
        path = root + path
    fields["path"] = path
    optional: tuple[tuple[str, Any], ...] = (
        ("root_path", root),
        ("raw_path", path.encode("utf-8", "surrogatepass")),
        ("query_string", fuzz_bytes.query_string(rng) if chance() < 0.6 else b""),
        ("client", rng.choice((("127.0.0.1", 50000), ["::1", 1], None, ("", 0), ("unix:/x", None)))),
        ("server", rng.choice((("127.0.0.1", 80), None, ("/run/x.sock", None)))),
        ("state", {"lifespan": 1} if chance() < 0.5 else {}),
        ("extensions", rng.choice(EXTENSIONS)),
    )
    fields.update((name, value) for name, value in optional if chance() < 0.8)
    return fields


def _path(rng: Random) -> str:
    choice = rng.random()
    if choice < 0.4:
        return f"/s/{fuzz_bytes.draw_key(rng).decode('utf-8', rng.choice(('replace', 'surrogateescape')))}"
    if choice < 0.5:
        return unquote_to_bytes(b"/s/%2F%00%0d%0a%ff/" + fuzz_bytes.noise(rng)).decode("utf-8", "replace")
    return rng.choice(PATHS)


def _cut_up(rng: Random, drawn: Drawn, body: bytes) -> None:
    """Write the script: the body in pieces, and where the client leaves."""
    chance = rng.random
    pieces = 1 if chance() < 0.4 else rng.choice((2, 3, 5, len(body) if len(body) < 40 else 7))
    places = sorted(rng.randrange(len(body) + 1) for _ in range(pieces - 1))
    chunks = [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]
    while chance() < 0.2:
        chunks.insert(rng.randrange(len(chunks) + 1), b"")
    script: list[dict[str, Any]] = []
    for number, chunk in enumerate(chunks):
        message: dict[str, Any] = {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
        if not chunk and chance() < 0.3:
            del message["body"]
        if not message["more_body"] and chance() < 0.3:
            del message["more_body"]
        script.append(message)
    if chance() < 0.08:
        drawn.cut = True
        script = script[: rng.randrange(len(script))]
        script.append({"type": "http.disconnect"})
        drawn.body = b"".join(message.get("body", b"") for message in script)
    drawn.script = script


def in_form(headers: tuple[Pair, ...], form: str) -> Iterable[Any]:
    """Return headers as one of the iterables of pairs that the specification allows."""
    match form:
        case "list":
            return list(headers)
        case "lists":
            return [list(pair) for pair in headers]
        case "tuple":
            return headers
        case _:
            return (pair for pair in headers)
