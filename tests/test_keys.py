"""Session keys from the ASGI scope, and the canonical form of a key."""

import pickle
from collections.abc import Iterable
from typing import Any

import pytest

from turnlane import keys
from turnlane.errors import SessionKeyInvalid


def scope_of(
    headers: Iterable[Any] = (), *, path: str = "/", root_path: str = "", query: bytes = b""
) -> dict[str, Any]:
    """Return an HTTP scope."""
    return {"type": "http", "headers": headers, "path": path, "root_path": root_path, "query_string": query}


class TestCanonical:
    """keys.canonical."""

    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            ("agent:main:alice", "agent:main:alice"),
            ("two words", "two words"),
            ("  alice \t\r\n", "alice"),
            ("\u00a0alice\u2003", "alice"),
            ("e\u0301", "\u00e9"),
            ("\u212b", "\u00e5".upper()),
            ("family \U0001f468\u200d\U0001f469", "family \U0001f468\u200d\U0001f469"),
            ("", None),
            (" \t\u2003\n", None),
        ],
    )
    def test_one_form_per_key(self, raw: str, expected: str | None) -> None:
        """Equal-looking keys become equal, and a blank one is none."""
        assert keys.canonical(raw, "header x-key") == expected

    @pytest.mark.parametrize("bad", ["\0", "\n", "\x7f", "\x85", "\u2028", "\u2029", "\ud800", "\u202e", "\u2066"])
    def test_refuses_characters_that_can_forge_a_line(self, bad: str) -> None:
        """A control character inside a key is refused, named by its code point."""
        with pytest.raises(SessionKeyInvalid, match=f"U\\+{ord(bad):04X}") as caught:
            keys.canonical(f"a{bad}b", "header x-key")
        assert caught.value.param == "header x-key"

    @pytest.mark.parametrize("letter", ["a", "\u00e9", "\u4e2d", "\U0001f600"])
    def test_bounds_the_length_in_bytes(self, letter: str) -> None:
        """512 bytes of UTF-8 are accepted, one letter more is not."""
        fits = letter * (keys.MAX_KEY_BYTES // len(letter.encode()))
        assert keys.canonical(fits, "p") == fits
        with pytest.raises(SessionKeyInvalid, match="512 bytes"):
            keys.canonical(fits + letter, "p")

    def test_measures_the_composed_form(self) -> None:
        """A key that fits once composed is accepted, however many marks it was written with."""
        assert keys.canonical("u\u0308\u0304" * 256, "p") == "\u01d6" * 256

    def test_never_composes_a_huge_text(self) -> None:
        """A million combining marks, which take quadratic time to sort, are refused unsorted."""
        with pytest.raises(SessionKeyInvalid, match="512 bytes"):
            keys.canonical("a" + "\u0315\u0300" * 500_000, "p")


class TestHeader:
    """keys.header."""

    def test_reads_the_header_of_that_name(self) -> None:
        """The name is compared as ASGI sends it, whatever its case in the setting."""
        extractor = keys.header("X-Session-Key")
        assert extractor.read(scope_of([(b"host", b"a"), (b"x-session-key", b"alice")])) == "alice"
        assert extractor.read(scope_of([(b"x-session-keys", b"alice")])) is None
        assert extractor.param == "header x-session-key"

    def test_accepts_utf8_and_refuses_other_bytes(self) -> None:
        """Bytes that are not UTF-8 name no session."""
        extractor = keys.header("x-key")
        assert extractor.read(scope_of([(b"x-key", "zo\u00eb".encode())])) == "zo\u00eb"
        with pytest.raises(SessionKeyInvalid, match="neither ASCII nor UTF-8"):
            extractor.read(scope_of([(b"x-key", b"zo\xeb")]))

    def test_refuses_two_different_values(self) -> None:
        """The app might see the other one; equal ones are harmless."""
        extractor = keys.header("x-key")
        assert extractor.read(scope_of([(b"x-key", b"a"), (b"x-key", b"a")])) == "a"
        with pytest.raises(SessionKeyInvalid, match="more than once"):
            extractor.read(scope_of([(b"x-key", b"a"), (b"host", b"h"), (b"x-key", b"b")]))

    @pytest.mark.parametrize("shape", [tuple, list, iter])
    def test_reads_headers_of_any_shape_and_leaves_them_readable(self, shape: Any) -> None:
        """Pairs may be lists, and an iterator is not used up for the app behind."""
        scope = scope_of(shape([[b"x-key", b"a"]]))
        assert keys.header("x-key").read(scope) == "a"
        assert list(scope["headers"]) == [[b"x-key", b"a"]]

    def test_a_scope_without_headers_names_no_session(self) -> None:
        """The headers of a scope are optional."""
        assert keys.header("x-key").read({"type": "websocket"}) is None

    @pytest.mark.parametrize("name", ["", " ", "x key", "x:key", "x\r\nkey", "schl\u00fcssel"])
    def test_refuses_names_no_header_can_have(self, name: str) -> None:
        """A bad setting fails when it is made, not at the first request."""
        with pytest.raises(ValueError, match="not the name of a header"):
            keys.header(name)


class TestQuery:
    """keys.query."""

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            (b"session=alice", "alice"),
            (b"a=1&sess%69on=al%69ce+b&c", "alice b"),
            (b"session=zo%C3%AB", "zo\u00eb"),
            ("session=zo\u00eb".encode(), "zo\u00eb"),
            (b"session=a&session=a", "a"),
            (b"sessions=a", None),
            (b"", None),
        ],
    )
    def test_reads_the_decoded_parameter(self, query: bytes, expected: str | None) -> None:
        """Names and values are percent-decoded."""
        assert keys.query("session").read(scope_of(query=query)) == expected

    def test_refuses_two_different_values(self) -> None:
        """Frameworks differ in which one they take."""
        with pytest.raises(SessionKeyInvalid, match="more than once"):
            keys.query("s").read(scope_of(query=b"s=a&s=b"))

    def test_refuses_bytes_that_are_not_utf8(self) -> None:
        """They are kept apart as surrogates, which the canonical form refuses."""
        for query in (b"s=%ff", b"s=\xff"):
            raw = keys.query("s").read(scope_of(query=query))
            with pytest.raises(SessionKeyInvalid, match=r"U\+DCFF"):
                keys.canonical(raw or "", "p")

    def test_bounds_the_number_of_fields(self) -> None:
        """More than a thousand are refused before they are parsed."""
        assert keys.query("s").read(scope_of(query=b"a&" * 999 + b"s=x")) == "x"
        with pytest.raises(SessionKeyInvalid, match="1000 fields"):
            keys.query("s").read(scope_of(query=b"a&" * 1000 + b"s=x"))

    def test_refuses_a_blank_name(self) -> None:
        """A bad setting fails when it is made."""
        with pytest.raises(ValueError, match="blank"):
            keys.query(" ")


class TestPath:
    """keys.path."""

    @pytest.mark.parametrize(
        ("path", "root_path", "expected"),
        [
            ("/sessions/alice/messages", "", "alice"),
            ("/api/sessions/alice/messages", "/api", "alice"),
            ("/sessions/alice/messages", "/api", "alice"),
            ("/apisessions/alice/messages", "/api", None),
            ("/sessions/alice/messages/", "", None),
            ("/sessions//messages", "", None),
            ("/sessions/a/b/messages", "", None),
            ("/Sessions/alice/messages", "", None),
            ("/", "", None),
            ("/api", "/api", None),
            ("", "", None),
        ],
    )
    def test_matches_as_a_route_would(self, path: str, root_path: str, expected: str | None) -> None:
        """The root path is not part of the template; the whole rest is."""
        extractor = keys.path("/sessions/{session_id}/messages")
        assert extractor.read(scope_of(path=path, root_path=root_path)) == expected

    def test_joins_several_segments(self) -> None:
        """No segment can hold a slash, so different pairs give different keys."""
        extractor = keys.path("/{user}/chats/{chat}")
        assert extractor.read(scope_of(path="/alice/chats/7")) == "alice/7"
        assert extractor.param == "path /{user}/chats/{chat}"

    @pytest.mark.parametrize(
        "template", ["", "sessions/{id}", "/sessions", "/{id}/{id}", "/a{id}", "/{}", "/{a b}", "/{id:path}", "/}"]
    )
    def test_refuses_templates_it_could_not_match(self, template: str) -> None:
        """A bad template fails when it is made."""
        with pytest.raises(ValueError, match="path template"):
            keys.path(template)


class TestCookie:
    """keys.cookie."""

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            ([b"session=alice"], "alice"),
            ([b"a=1; session=alice ;b=2"], "alice"),
            ([b"a=1", b"session=alice"], "alice"),
            ([b'session="alice"'], "alice"),
            ([b"session=a=b"], "a=b"),
            ([b"session=a; session=a"], "a"),
            ([b"session"], None),
            ([b"sessions=alice"], None),
            ([b'session="'], '"'),
            ([], None),
        ],
    )
    def test_reads_the_cookie_of_that_name(self, lines: list[bytes], expected: str | None) -> None:
        """Cookies may be spread over several headers."""
        assert keys.cookie("session").read(scope_of([(b"cookie", line) for line in lines])) == expected

    def test_refuses_what_apps_read_differently(self) -> None:
        """Two different cookies of that name, or an escape inside quotes."""
        with pytest.raises(SessionKeyInvalid, match="more than once"):
            keys.cookie("s").read(scope_of([(b"cookie", b"s=a; s=b")]))
        with pytest.raises(SessionKeyInvalid, match="backslash"):
            keys.cookie("s").read(scope_of([(b"cookie", b's="a\\073b"')]))

    def test_refuses_names_no_cookie_can_have(self) -> None:
        """A bad setting fails when it is made."""
        with pytest.raises(ValueError, match="not the name of a cookie"):
            keys.cookie("a;b")


def test_extractors_are_frozen_values() -> None:
    """Equal settings are equal, hashable and picklable extractors, and none can be changed."""
    for make in (lambda: keys.header("x-key"), lambda: keys.json_body("a.b"), lambda: keys.first_of("x-a", "x-b")):
        extractor = make()
        assert extractor == make()
        assert hash(extractor) == hash(make())
        assert pickle.loads(pickle.dumps(extractor)) == extractor
        with pytest.raises(AttributeError):
            extractor.param = "other"  # type: ignore[union-attr]
