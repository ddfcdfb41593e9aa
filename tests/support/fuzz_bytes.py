"""Odd bytes for requests: keys, header values, JSON documents, forms. Every choice comes from the generator given."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

__all__ = (
    "CONTENT_TYPES",
    "JSON_MEMBERS",
    "KEYS",
    "draw_key",
    "form_body",
    "json_body",
    "noise",
    "other_body",
    "query_string",
)

KEYS: tuple[bytes, ...] = (
    b"agent:main:alice",
    b"agent:main:alice",  # as often as the rest needs, so that requests meet in one lane
    b"agent:main:bob",
    b"a/b/%2F/c",
    b"0",
    b"",
    b" ",
    b"\t spaces around \t",
    b"\xc2\xa0no-break spaces\xe2\x80\x83",
    b"k" * 511,
    b"k" * 512,
    b"k" * 513,
    "\u00e9".encode() * 256,
    "e\u0301".encode() * 256,
    "\U0001f600".encode() * 128,
    b"k" * 2048,
    b"k" * 2049,
    b"k" * 70_000,
    b"a" + "\u0301\u0323".encode() * 1000,
    b"latin-1 \xe9",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"nul\0in it",
    b"line\r\nx-injected: yes",
    b"line\nfeed",
    b"carriage\rreturn",
    b"\r\n",
    b"escape\x1b[31m",
    b"delete\x7f",
    "next\u0085line".encode(),
    "separator\u2028".encode(),
    "\u202eright to left".encode(),
    "\ufeffmark".encode(),
    "\u1100\u1161\u212b".encode(),
    b'"quoted"',
    b'back\\slash"',
    b"a=b; c=d, e",
    b"%00%0d%0a",
    b"%ff%fe",
    b"%ed%a0%80",
    b"../../etc/passwd",
    b"null",
    b"{}",
)

# What presets and the targets of this suite look for; the first name of each is what they all begin with.
JSON_MEMBERS: tuple[tuple[str, ...], ...] = (
    ("s",),
    ("s", "a", "0"),
    ("metadata", "session_id"),
    ("session_override",),
    ("conversation",),
    ("conversation", "id"),
    ("threadId",),
    ("thread_id",),
    ("params", "message", "contextId"),
    ("message", "contextId"),
    ("session_id",),
    ("appName",),
    ("userId",),
    ("sessionId",),
    ("app_name",),
    ("user_id",),
)
ADK = (("appName",), ("user_id",), ("sessionId",))

NUMBERS = (0, 1, -1, 2**53, 10**400, 1.5, -0.0, 1e308, float("inf"), float("nan"))
RAW_JSON: tuple[bytes, ...] = (
    b"[" * 100_000,
    b'{"s":' * 5_000 + b"1" + b"}" * 5_000,
    b"[" * 500 + b"]" * 500,
    b'{"s":' + b"9" * 4_300 + b"}",
    b'{"s":' + b"9" * 4_301 + b"}",
    b'{"s":' + b"9" * 20_000 + b"}",
    b'{"s":-0}',
    b'{"s":1e400}',
    b'{"s":1E+2}',
    b'{"s":NaN}',
    b'{"s":-Infinity}',
    b'{"s":"\\ud800"}',
    b'{"s":"\\udc00\\ud800"}',
    b'{"s":"\\u0000"}',
    b'{"s":"a\\r\\nb"}',
    b'{"s":"\xed\xa0\x80"}',
    b'{"s":"\xff"}',
    b'{"s":"a\nb"}',
    b'{"s":"a","s":"b"}',
    b'{"s":"a",}',
    b"{'s':'a'}",
    b'{"s":"a"} {}',
    b'{"s":',
    b'"s"',
    b"17",
    b"null",
    b"\xef\xbb\xbf" + b'{"s":"with a mark"}',
    '{"s":"utf-16"}'.encode("utf-16"),
    '{"s":"utf-16-le"}'.encode("utf-16-le"),
    '{"s":"utf-32"}'.encode("utf-32"),
    '{"s":"utf-32-be"}'.encode("utf-32-be"),
    b"\xff\xfe",
    b"\xfe\xff\xd8\x00",
    b"\0\0\0{",
    b"\0",
)
CONTENT_TYPES: tuple[bytes, ...] = (
    b"multipart/form-data; boundary=b",
    b'multipart/form-data; boundary="b"',
    b"Multipart/Form-Data;charset=utf-8 ; BOUNDARY=b",
    b"multipart/form-data",
    b"multipart/form-data;",
    b"multipart/form-data; boundary=",
    b"multipart/form-data; boundary=" + b"b" * 300,
    b'multipart/form-data; boundary="b',
    b"multipart/form-data; boundary*0=b; boundary*1=c",
    b"multipart/form-data; boundary*=utf-8''b",
    b"multipart/form-data; boundary*" + b"9" * 5_000 + b"=b",
    b"multipart/form-data; boundary=b; boundary=c",
    b"multipart/form-data; boundary=\xff",
    b"multipart/form-data; boundary=\r\n",
    b"multipart/form-data" + b";" * 2_000,
)
PART_HEADERS: tuple[bytes, ...] = (
    b'Content-Disposition: form-data; name="s"',
    b'Content-Disposition: form-data; name="session_id"',
    b"content-disposition:form-data;name=s",
    b'Content-Disposition: form-data; name="s"; filename="x"',
    b"Content-Disposition: form-data; name*=utf-8''s",
    b"Content-Disposition: form-data; name*99999999999999999999=s",
    b"Content-Disposition: form-data",
    b"Content-Disposition: \xff\xfe; name=\xff",
    b'Content-Disposition: form-data; name="s',
    b"Content-Type: text/plain",
    b"X" * 5_000 + b": y",
    b"bad header",
    b": empty",
    b"",
)


def draw_key(rng: Random) -> bytes:
    """Return a session key, good or bad."""
    choice = rng.random()
    if choice < 0.45:
        return rng.choice(KEYS)
    if choice < 0.85:
        return b"session-%d" % rng.randrange(1000)
    return rng.randbytes(rng.randrange(12))


def noise(rng: Random) -> bytes:
    """Return bytes for a header or a body that nobody understands."""
    choice = rng.random()
    if choice < 0.02:
        return rng.choice((b"\0", b"\r\n", b"a", b"\xff")) * rng.choice((1, 1000, 8_000, 66_000))
    return rng.randbytes(rng.randrange(40))


def query_string(rng: Random) -> bytes:
    """Return the query string of a URL."""
    choice = rng.random()
    if choice < 0.02:
        return b"&".join(b"f%d=%d" % (n, n) for n in range(rng.choice((999, 1000, 1001, 3000)))) + b"&s=a"
    fields: list[bytes] = []
    for _ in range(rng.choice((1, 1, 2, 3, 9))):
        name = rng.choice((b"s", b"s", b"s", b"sid", b"S", b"%73", b"other", b"", b"\xff", b"s[]"))
        value = rng.choice((draw_key, draw_key, noise))(rng)
        if rng.random() < 0.4:
            value = b"".join(b"%%%02x" % byte for byte in value[:600])
        fields.append(name + rng.choice((b"=", b"=", b"=", b"", b"==")) + value)
    return rng.choice((b"&", b"&", b"&", b";", b"&&")).join(fields)


def json_body(rng: Random) -> bytes:
    """Return a JSON document, or what nearly is one."""
    if rng.random() < 0.15:
        return rng.choice(RAW_JSON)
    document: dict[str, Any] = {}
    members = ADK if rng.random() < 0.3 else rng.sample(JSON_MEMBERS, rng.choice((1, 1, 2, 4)))
    for steps in members:
        _put(document, steps, _json_value(rng))
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    data = text.encode("utf-8", "surrogatepass")
    return _broken(rng, data) if rng.random() < 0.15 else data


def form_body(rng: Random) -> tuple[bytes, bytes]:
    """Return a content type and a form, urlencoded or multipart, in order or not."""
    if rng.random() < 0.4:
        data = query_string(rng).replace(b"sid", b"session_id")
        kind = rng.choice((b"application/x-www-form-urlencoded", b"APPLICATION/x-www-form-urlencoded ;charset=utf-8"))
        return kind, data
    kind = CONTENT_TYPES[0] if rng.random() < 0.6 else rng.choice(CONTENT_TYPES)
    lines: list[bytes] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3)) if rng.random() < 0.995 else 1002):
        header = PART_HEADERS[rng.randrange(2)] if rng.random() < 0.7 else rng.choice(PART_HEADERS)
        value = b"v" * 5_000 if rng.random() < 0.01 else draw_key(rng)
        lines += [b"--b", header, b"", value]
    data = b"\r\n".join((*lines, b"--b--", b""))
    return kind, _broken(rng, data) if rng.random() < 0.25 else data


def other_body(rng: Random) -> bytes:
    """Return a body of no known form."""
    return rng.choice((b"", b"", b"hello", b"\0", noise(rng), noise(rng) * 7))


def _json_value(rng: Random) -> Any:
    choice = rng.random()
    if choice < 0.65:
        return draw_key(rng).decode("utf-8", rng.choice(("replace", "surrogateescape")))
    if choice < 0.80:
        return rng.choice(NUMBERS)
    if choice < 0.85:
        return rng.randrange(1000)
    odd: tuple[Any, ...] = (None, True, False, [], {}, ["a"], [{"a": ["b"]}], {"a": ["c", 5]}, {"id": "d"}, {"id": 7})
    return rng.choice(odd)


def _put(document: dict[str, Any], steps: tuple[str, ...], value: object) -> None:
    for step in steps[:-1]:
        if not isinstance(document.get(step), dict):
            document[step] = {}
        document = document[step]
    document[steps[-1]] = value


def _broken(rng: Random, data: bytes) -> bytes:
    where = rng.randrange(len(data) + 1)
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: data[:where],
        lambda: data[where:],
        lambda: data[:where] + rng.randbytes(1) + data[where:],
        lambda: data[:where] + rng.choice((b"\r", b"\n", b"\0", b"-", b"--b", b"\r\n--b")) + data[where + 1 :],
        lambda: data + data,
        lambda: data.replace(b"\r\n", b"\n"),
    )
    return rng.choice(ways)()
