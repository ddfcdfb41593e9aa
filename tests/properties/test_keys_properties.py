"""Properties of session keys that hold for any bytes a client sends."""

import asyncio
import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnlane import keys
from turnlane.errors import RequestRefused, SessionKeyInvalid

# Hypothesis draws as many examples as it is told to, however slow the machine is: this only guards against hanging.
pytestmark = pytest.mark.timeout(300)

NAMES = st.sampled_from([b"x-key", b"cookie", b"content-type", b"host"])
TYPES = st.sampled_from(
    [b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=b", b"multipart/form-data"]
)
COOKIES = st.lists(st.sampled_from([b"s", b"=", b";", b'"', b"\\", b" ", b"a", b"\xff"]), max_size=20).map(b"".join)
FORM_PIECES = st.sampled_from(
    [
        b"--b",
        b"--",
        b"\r\n",
        b"\r\n\r\n",
        b'Content-Disposition: form-data; name="s"',
        b"; filename=x",
        b"a",
        b"\xff",
        b"s=%",
        b"&",
    ]
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.lists(FORM_PIECES, max_size=25).map(b"".join),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("sab"), inner, max_size=3),
        max_leaves=12,
    ).map(lambda document: json.dumps(document).encode()),
)
SCOPES = st.fixed_dictionaries(
    {"type": st.just("http")},
    optional={
        "headers": st.lists(
            st.tuples(NAMES, st.binary(max_size=40) | TYPES | COOKIES)
            | st.tuples(st.binary(max_size=9), st.binary(max_size=9)),
            max_size=6,
        ),
        "query_string": st.binary(max_size=60) | COOKIES.map(lambda text: text.replace(b";", b"&")),
        "path": st.text(max_size=20) | st.lists(st.sampled_from(["", "s", "a"]), max_size=5).map("/".join),
        "root_path": st.sampled_from(["", "/", "/s", "/a", "a"]),
    },
)
EXTRACTORS: tuple[keys.KeyExtractor, ...] = (
    keys.header("x-key"),
    keys.query("s"),
    keys.path("/s/{id}"),
    keys.path("/{a}/{b}"),
    keys.cookie("s"),
    keys.json_body("s"),
    keys.json_body("s.a.0"),
    keys.form_field("s"),
    keys.first_of(keys.cookie("s"), keys.query("s"), keys.json_body("s"), keys.form_field("s")),
    keys.scoped_by(keys.header("x-key"), keys.first_of(keys.cookie("s"), keys.json_body("s"))),
    keys.openai_chat(),
    keys.openai_responses(),
    keys.openclaw(),
    keys.ag_ui(),
    keys.a2a(),
    keys.adk(),
    keys.agent_os(),
)


class _Request:
    def __init__(self, scope: keys.Scope, body: bytes) -> None:
        self.scope = scope
        self._body = body

    async def body(self) -> bytes:
        return self._body


@given(scope=SCOPES, body=BODIES)
@settings(max_examples=500, deadline=None)
def test_no_bytes_raise_anything_but_a_refusal(scope: keys.Scope, body: bytes) -> None:
    """Whatever a client sends, an extractor gives a key, none, or refuses the request."""

    async def all_of_them() -> None:
        for extractor in EXTRACTORS:
            try:
                raw = await keys.extract(extractor, _Request(scope, body))
                key = None if raw is None else keys.canonical(raw, keys.param_of(extractor))
            except RequestRefused:
                continue
            assert key is None or 0 < len(key.encode()) <= keys.MAX_KEY_BYTES

    asyncio.run(all_of_them())


@given(
    st.text(max_size=40) | st.text(alphabet="e\u0301\u0308\u212b\u1100\u1161 \t\u00a0\u2000\u200d\u0338=", max_size=12)
)
@settings(max_examples=1000, deadline=None)
def test_the_canonical_form_is_its_own_canonical_form(raw: str) -> None:
    """It is also composed, without white space around, and without a character that can forge a line."""
    try:
        key = keys.canonical(raw, "p")
    except SessionKeyInvalid:
        return
    if key is None:
        assert not raw.strip()
        return
    assert keys.canonical(key, "p") == key
    assert key == key.strip()
    assert unicodedata.is_normalized("NFC", key)
    assert len(key.splitlines()) == 1


@given(st.text(alphabet="ae\u0301\u00e9\u0308 \u00a0", max_size=8))
def test_equal_looking_keys_share_a_canonical_form(raw: str) -> None:
    """However the client's keyboard composes letters."""
    for form in ("NFC", "NFD"):
        assert keys.canonical(unicodedata.normalize(form, f" {raw}\t"), "p") == keys.canonical(raw, "p")


PRINCIPALS = st.text(alphabet="ab/% .\u00e9\u0301\ud800", min_size=1, max_size=4).filter(str.strip)
CLIENT_KEYS = st.text(alphabet="ab/%2F", min_size=1, max_size=5)


@given(st.tuples(PRINCIPALS, CLIENT_KEYS), st.tuples(PRINCIPALS, CLIENT_KEYS))
@settings(max_examples=1000, deadline=None)
def test_scoped_keys_are_equal_only_for_one_principal_and_one_key(one: tuple[str, str], two: tuple[str, str]) -> None:
    """No choice of key reaches into the space of another principal."""

    def scoped(pair: tuple[str, str]) -> str | None:
        principal, key = pair

        class Principal(keys.ScopeExtractor):
            param = "principal"

            def read(self, scope: keys.Scope) -> str | None:
                return principal

        extractor = keys.scoped_by(Principal(), keys.header("x-key"))
        assert isinstance(extractor, keys.ScopeExtractor)
        raw = extractor.read({"headers": [(b"x-key", key.encode())]})
        return None if raw is None else keys.canonical(raw, "p")

    assert (scoped(one) == scoped(two)) == (one == two)
