"""Session keys from the body, JSON and forms, and the presets of well-known protocols."""

import contextlib
import json
import sys
import time
from collections.abc import Callable

import pytest

from turnlane import keys
from turnlane.errors import NotConfigured, SessionKeyInvalid

URLENCODED = b"application/x-www-form-urlencoded"
MULTIPART = b"multipart/form-data; boundary=b"


def parse(extractor: keys.KeyExtractor, body: bytes, content_type: bytes = b"application/json") -> str | None:
    """Return what a body extractor reads in `body`."""
    assert isinstance(extractor, keys.BodyExtractor)
    return extractor.parse({"type": "http", "headers": [(b"content-type", content_type)]}, body)


def multipart(*parts: bytes) -> bytes:
    """Return a multipart body of parts, each made of headers, a blank line and data."""
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


def field(name: bytes, value: bytes) -> bytes:
    """Return one part of a multipart form."""
    return b'Content-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value


class TestJsonBody:
    """keys.json_body."""

    @pytest.mark.parametrize(
        ("path", "document", "expected"),
        [
            ("session_id", {"session_id": "alice"}, "alice"),
            ("metadata.session_id", {"metadata": {"session_id": "alice"}}, "alice"),
            ("metadata.session_id", {"metadata": {}}, None),
            ("metadata.session_id", {"metadata": None}, None),
            ("metadata.session_id", {"metadata": {"session_id": None}}, None),
            ("metadata.session_id", {"metadata": "text"}, None),
            ("session_id", {"session_id": 17}, "17"),
            ("session_id", {"session_id": " "}, None),
            ("messages.1.id", {"messages": [{"id": "a"}, {"id": "b"}]}, "b"),
            ("messages.2.id", {"messages": [{"id": "a"}, {"id": "b"}]}, None),
            ("messages.-1.id", {"messages": [{"id": "a"}]}, None),
            ("messages.\u0661.id", {"messages": [{"id": "a"}, {"id": "b"}]}, None),
            ("messages." + "9" * 5000, {"messages": ["a"]}, None),
            ("0.id", [{"id": "a"}], "a"),
            ("0", {"0": "a"}, "a"),
            ("id", "text", None),
            ("id", None, None),
        ],
    )
    def test_follows_the_path(self, path: str, document: object, expected: str | None) -> None:
        """Through objects by name and arrays by index; nothing there is no key."""
        assert parse(keys.json_body(path), json.dumps(document).encode()) == expected

    @pytest.mark.parametrize(
        ("value", "kind"), [(True, "true or false"), (1.5, "fraction"), ({"a": 1}, "an object"), (["a"], "an array")]
    )
    def test_refuses_values_that_are_not_text(self, value: object, kind: str) -> None:
        """A value that is present but unusable is refused, not overlooked."""
        with pytest.raises(SessionKeyInvalid, match=kind) as caught:
            parse(keys.json_body("a.id"), json.dumps({"a": {"id": value}}).encode())
        assert caught.value.param == "a.id in the JSON body"

    @pytest.mark.parametrize("body", [b"", b"hello", b"{", b"\xff\xfe\xfd", b'{"id": "a"} x', b"\x00\x00\x00"])
    def test_a_body_that_is_not_json_names_no_session(self, body: bytes) -> None:
        """The app behind complains about it itself."""
        assert parse(keys.json_body("id"), body) is None

    def test_refuses_what_other_parsers_might_read(self) -> None:
        """Too deep or too long for this parser: refused, so that no key slips by."""
        deep = b'{"id": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        with pytest.raises(SessionKeyInvalid, match="too deep"):
            parse(keys.json_body("id"), deep)
        with pytest.raises(SessionKeyInvalid, match="too many digits"):
            parse(keys.json_body("id"), b'{"id": "a", "x": ' + b"1" * 5000 + b"}")

    @pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "a. .b"])
    def test_refuses_a_path_with_blank_names(self, path: str) -> None:
        """A bad path fails when it is made."""
        with pytest.raises(ValueError, match="names joined with dots"):
            keys.json_body(path)


class TestFormField:
    """keys.form_field."""

    @pytest.mark.parametrize(
        ("kind", "body", "expected"),
        [
            (URLENCODED, b"message=hi&session_id=al%69ce", "alice"),
            (b"Application/X-WWW-Form-Urlencoded ; charset=utf-8", b"session_id=alice", "alice"),
            (URLENCODED, b"message=hi", None),
            (URLENCODED, b"", None),
            (MULTIPART, multipart(field(b"message", b"hi"), field(b"session_id", b"alice")), "alice"),
            (MULTIPART, multipart(field(b"session_id", b"a"), field(b"session_id", b"a")), "a"),
            (MULTIPART, multipart(field(b"session_id", "zo\u00eb".encode())), "zo\u00eb"),
            (MULTIPART, multipart(field(b"message", b"hi")), None),
            (MULTIPART, multipart(field(b"session_id", b"a"))[:-9], None),
            (MULTIPART, b"nonsense", None),
            (b"multipart/form-data", multipart(field(b"session_id", b"a")), None),
            (b"multipart/form-data; boundary=" + b"b" * 300, b"", None),
            (b"application/json", b'{"session_id": "a"}', None),
            (b"", b"session_id=a", None),
        ],
    )
    def test_reads_the_field(self, kind: bytes, body: bytes, expected: str | None) -> None:
        """Urlencoded or multipart; what is no form names no session."""
        assert parse(keys.form_field("session_id"), body, kind) == expected

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            (URLENCODED, b"session_id=a&session_id=b"),
            (MULTIPART, multipart(field(b"session_id", b"a"), field(b"session_id", b"b"))),
        ],
    )
    def test_refuses_two_different_values(self, kind: bytes, body: bytes) -> None:
        """Frameworks differ in which one they take."""
        with pytest.raises(SessionKeyInvalid, match="more than once"):
            parse(keys.form_field("session_id"), body, kind)

    def test_refuses_a_file_in_its_place(self) -> None:
        """A file can not be a key; a file of another name does no harm."""
        upload = b'Content-Disposition: form-data; name="session_id"; filename="x"\r\n\r\nalice'
        with pytest.raises(SessionKeyInvalid, match="a file"):
            parse(keys.form_field("session_id"), multipart(upload), MULTIPART)
        body = multipart(upload, field(b"id", b"alice"))
        assert parse(keys.form_field("id"), body, MULTIPART) == "alice"

    def test_bounds_the_number_and_the_size_of_fields(self) -> None:
        """More than a thousand fields, or a key of many kilobytes, are refused."""
        with pytest.raises(SessionKeyInvalid, match="1000 fields"):
            parse(keys.form_field("s"), b"a&" * 1000 + b"s=x", URLENCODED)
        with pytest.raises(SessionKeyInvalid, match="1000 fields"):
            parse(keys.form_field("s"), multipart(*[field(b"a", b"")] * 1000, field(b"s", b"x")), MULTIPART)
        with pytest.raises(SessionKeyInvalid, match="longer than 4096 bytes"):
            parse(keys.form_field("s"), multipart(field(b"s", b"x" * 4097)), MULTIPART)

    def test_refuses_bytes_that_are_not_utf8(self) -> None:
        """They are kept apart as surrogates, which the canonical form refuses."""
        raw = parse(keys.form_field("s"), multipart(field(b"s", b"\xff")), MULTIPART)
        with pytest.raises(SessionKeyInvalid, match=r"U\+DCFF"):
            keys.canonical(raw or "", "p")

    def test_names_the_extra_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the parser the mistake shows when the extractor is made, and says what to do."""
        monkeypatch.setitem(sys.modules, "python_multipart", None)
        with pytest.raises(NotConfigured, match=r"pip install 'turnlane\[forms\]'"):
            keys.form_field("session_id")

    def test_refuses_a_blank_name(self) -> None:
        """A bad setting fails when it is made."""
        with pytest.raises(ValueError, match="blank"):
            keys.form_field(" ")


@pytest.mark.parametrize(
    ("preset", "document", "expected"),
    [
        (keys.openai_responses, {"conversation": "conv_1"}, "conv_1"),
        (keys.openai_responses, {"conversation": {"id": "conv_1"}}, "conv_1"),
        (keys.openai_responses, {"conversation": {}, "metadata": {"session_id": "s"}}, "s"),
        (keys.openai_responses, {"conversation": None, "metadata": {"session_id": "s"}}, "s"),
        (keys.openai_responses, {"previous_response_id": "resp_1"}, None),
        (keys.ag_ui, {"threadId": "t", "runId": "r"}, "t"),
        (keys.ag_ui, {"thread_id": "t"}, "t"),
        (keys.a2a, {"jsonrpc": "2.0", "params": {"message": {"contextId": "c"}}}, "c"),
        (keys.a2a, {"message": {"contextId": "c"}}, "c"),
        (keys.a2a, {"jsonrpc": "2.0", "params": {"message": {"taskId": "t"}}}, None),
        (keys.adk, {"app_name": "app", "user_id": "u", "session_id": "s"}, "app/u/s"),
        (keys.adk, {"appName": "app", "userId": "u", "sessionId": "s"}, "app/u/s"),
        (keys.adk, {"appName": "a/b", "userId": "u", "sessionId": "s"}, "a%2Fb/u/s"),
        (keys.adk, {"appName": "app", "userId": "u"}, None),
    ],
)
def test_presets_find_the_key_where_the_protocol_has_it(
    preset: Callable[[], keys.KeyExtractor], document: object, expected: str | None
) -> None:
    """Each preset reads the field its protocol uses."""
    assert parse(preset(), json.dumps(document).encode()) == expected


def test_a_request_to_adk_that_names_no_app_is_for_its_default_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the lane of those that name it; without a default ADK refuses it."""
    document = {"user_id": "u", "session_id": "s"}
    body, named = json.dumps(document).encode(), json.dumps({"app_name": "b", **document}).encode()
    monkeypatch.delenv("ADK_DEFAULT_APP_NAME", raising=False)
    assert parse(keys.adk(), body) is None
    assert parse(keys.adk(default_app="a"), body) == "a/u/s"
    assert parse(keys.adk(default_app="a"), named) == "b/u/s"
    monkeypatch.setenv("ADK_DEFAULT_APP_NAME", "rig")
    assert parse(keys.adk(), body) == "rig/u/s"


def test_adk_keys_of_different_users_are_different() -> None:
    """A slash in one part can not shift it into the next."""
    one = {"app_name": "a", "user_id": "b/c", "session_id": "d"}
    two = {"app_name": "a/b", "user_id": "c", "session_id": "d"}
    assert parse(keys.adk(), json.dumps(one).encode()) != parse(keys.adk(), json.dumps(two).encode())


def test_agent_os_reads_the_form_field() -> None:
    """AgentOS takes forms, not JSON."""
    body = multipart(field(b"message", b"hi"), field(b"session_id", b"s"), field(b"stream", b"true"))
    assert parse(keys.agent_os(), body, MULTIPART) == "s"


@pytest.mark.parametrize(
    ("extractor", "unit", "content_type"),
    [
        (keys.form_field("s"), b"--b\r\n\r\n", MULTIPART),
        (keys.form_field("s"), b"a: b\r\n", MULTIPART),
        (keys.form_field("s"), b"\r\n--", MULTIPART),
        (keys.form_field("s"), b";", MULTIPART),
        (keys.form_field("s"), b"%s=", URLENCODED),
        (keys.json_body("s"), b"[", b"application/json"),
        (keys.json_body("s"), b'"\\u00', b"application/json"),
    ],
)
def test_hostile_bodies_take_linear_time(extractor: keys.BodyExtractor, unit: bytes, content_type: bytes) -> None:
    """Sixteen times the body takes nowhere near the 256 times of a quadratic parser."""

    def seconds(size: int) -> float:
        body = (unit * (size // len(unit) + 1))[:size]
        best = 1e9
        for _ in range(3):
            began = time.process_time()
            with contextlib.suppress(SessionKeyInvalid):
                extractor.parse({"headers": [(b"content-type", content_type)]}, b"--b\r\n" + body)
            best = min(best, time.process_time() - began)
        return best

    small = max(seconds(16 * 1024), 0.0002)
    assert seconds(256 * 1024) < 80 * small
