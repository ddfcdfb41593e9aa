"""Session keys from several extractors together: first_of, scoped_by, overridable, and callables of the user."""

from typing import Any, cast

import pytest

from turnlane import keys
from turnlane.errors import BodyTooLarge, SessionKeyInvalid, SessionKeyRequired


class Request:
    """A connection that counts how often its body was asked for."""

    def __init__(self, headers: dict[str, str] | None = None, body: bytes = b"", user: str | None = None) -> None:
        pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self.scope: keys.Scope = {"type": "http", "headers": pairs, "path": "/", "user": user}
        self.reads = 0
        self._body = body

    async def body(self) -> bytes:
        """Return the body."""
        self.reads += 1
        return self._body


class Endless(Request):
    """A connection whose body is larger than the server reads."""

    async def body(self) -> bytes:
        """Refuse."""
        raise BodyTooLarge("the body", body_limit=1)


def sync_user(request: Request) -> str | None:
    """Return the authenticated principal."""
    return cast("str | None", request.scope["user"])


async def async_user(request: Request) -> str | None:
    """Return the authenticated principal."""
    return cast("str | None", request.scope["user"])


class User(keys.ScopeExtractor):
    """The authenticated principal, from the scope alone."""

    param = "user"

    def read(self, scope: keys.Scope) -> str | None:
        """Return it."""
        return cast("str | None", scope["user"])


principals = pytest.mark.parametrize("principal", [sync_user, async_user, User()])


class TestFirstOf:
    """keys.first_of."""

    async def test_the_first_that_gives_a_key_wins(self) -> None:
        """In the order given, a blank value being none."""
        extractor = keys.first_of("x-a", keys.header("x-b"))
        assert await keys.extract(extractor, Request({"x-b": "b"})) == "b"
        assert await keys.extract(extractor, Request({"x-a": " ", "x-b": "b"})) == "b"
        assert await keys.extract(extractor, Request({"x-a": "a", "x-b": "b"})) == "a"
        assert await keys.extract(extractor, Request()) is None

    async def test_reads_the_body_only_when_it_comes_to_it(self) -> None:
        """A key in a header spares reading a body, however large."""
        extractor = keys.first_of("x-a", keys.json_body("id"))
        request = Request({"x-a": "a"}, b'{"id": "b"}')
        assert await keys.extract(extractor, request) == "a"
        assert request.reads == 0
        assert await keys.extract(extractor, Request(body=b'{"id": "b"}')) == "b"
        with pytest.raises(BodyTooLarge):
            await keys.extract(extractor, Endless())

    def test_stays_synchronous_when_all_parts_are(self) -> None:
        """Scope extractors together are one; any other part makes it asynchronous."""
        scope_only = keys.first_of("x-a", keys.query("b"), keys.first_of(keys.cookie("c"), keys.path("/{d}")))
        assert keys.is_scope_only(scope_only)
        assert not keys.needs_body(scope_only)
        for part in (sync_user, async_user, keys.json_body("id")):
            assert not keys.is_scope_only(keys.first_of("x-a", part))
        assert keys.needs_body(keys.first_of("x-a", keys.first_of("x-b", keys.json_body("id"))))
        assert not keys.needs_body(keys.first_of("x-a", async_user))

    @pytest.mark.parametrize("broken", ["x-a", keys.first_of("x-b", "x-a")])
    def test_a_refused_part_refuses_the_request(self, broken: str | keys.KeyExtractor) -> None:
        """An invalid key is not passed over for the next, and the error names its own part."""
        extractor = keys.first_of(broken, keys.header("x-c"))
        assert isinstance(extractor, keys.ScopeExtractor)
        with pytest.raises(SessionKeyInvalid) as caught:
            extractor.read(Request({"x-a": "a\u202eb", "x-c": "c"}).scope)
        assert "header x-a" in caught.value.param

    def test_needs_parts(self) -> None:
        """No part at all is a mistake."""
        with pytest.raises(ValueError, match="at least one"):
            keys.first_of()


class TestScopedBy:
    """keys.scoped_by."""

    @principals
    async def test_puts_the_principal_before_the_key(self, principal: keys.KeyExtractor) -> None:
        """Whatever kind of callable says who it is."""
        extractor = keys.scoped_by(principal, "x-key")
        assert await keys.extract(extractor, Request({"x-key": " main "}, user="alice")) == "alice/main"

    @principals
    @pytest.mark.parametrize("user", [None, "", " \t"])
    async def test_refuses_a_key_without_a_principal(self, principal: keys.KeyExtractor, user: str | None) -> None:
        """Strangers share no space: without a principal the request is refused."""
        extractor = keys.scoped_by(principal, "x-key")
        with pytest.raises(SessionKeyRequired, match="an authenticated principal"):
            await keys.extract(extractor, Request({"x-key": "main"}, user=user))

    def test_answers_at_once_where_its_parts_do(self) -> None:
        """Nothing to await is made for a principal and a key that are there."""
        extractor = keys.scoped_by(sync_user, "x-key")
        assert extractor(Request({"x-key": "main"}, user="alice")) == "alice/main"

    @principals
    async def test_no_key_is_no_key(self, principal: keys.KeyExtractor) -> None:
        """A request that names no session needs no principal."""
        assert await keys.extract(keys.scoped_by(principal, "x-key"), Request()) is None
        assert await keys.extract(keys.scoped_by(principal, "x-key"), Request({"x-key": " "}, user="alice")) is None

    async def test_different_pairs_give_different_keys(self) -> None:
        """Slashes, percent signs and composed letters in a principal can not imitate another."""
        extractor = keys.scoped_by(sync_user, "x-key")
        pairs = [
            ("a", "b/c"),
            ("a/b", "c"),
            ("a%2Fb", "c"),
            ("a ", "b/c"),
            ("\u00e9", "x"),
            ("e\u0301", "x"),
            ("\udc80", "x"),
        ]
        found = {await keys.extract(extractor, Request({"x-key": key}, user=user)) for user, key in pairs}
        assert len(found) == len(pairs)

    def test_says_that_it_is_scoped(self) -> None:
        """A composite is scoped if every way to a key is."""
        scoped = keys.scoped_by(sync_user, "x-key")
        assert keys.is_scoped(scoped)
        assert keys.is_scoped(keys.first_of(scoped, keys.scoped_by(async_user, keys.json_body("id"))))
        assert keys.is_scoped(keys.scoped_by(sync_user, keys.openclaw()))
        assert not keys.is_scoped(keys.first_of(scoped, "x-key"))
        assert not keys.is_scoped(keys.overridable(scoped, "x-key"))
        assert not keys.is_scoped(keys.header("x-key"))
        assert not keys.is_scoped(sync_user)

    def test_is_scope_only_if_the_principal_is(self) -> None:
        """A principal that needs the connection makes it asynchronous."""
        assert keys.is_scope_only(keys.scoped_by(User(), "x-key"))
        assert not keys.is_scope_only(keys.scoped_by(sync_user, "x-key"))
        assert keys.needs_body(keys.scoped_by(User(), keys.json_body("id")))

    def test_a_header_name_is_no_principal(self) -> None:
        """Whoever writes the header would choose the principal, so it must be said in full."""
        with pytest.raises(ValueError, match="principal must be a callable"):
            keys.scoped_by(cast("keys.KeyExtractor", "x-user"), "x-key")


class TestOverridable:
    """keys.overridable, and the OpenClaw preset made of it."""

    @pytest.mark.parametrize(
        ("headers", "body", "expected"),
        [
            ({"x-openclaw-session-key": "channel"}, b"{}", "channel"),
            ({"x-openclaw-session-key": "channel"}, b'{"session_override": "one"}', "one"),
            ({"x-openclaw-session-key": "channel"}, b'{"session_override": ""}', "channel"),
            ({"x-openclaw-session-key": "channel"}, b"", "channel"),
            ({}, b'{"session_override": "one"}', "one"),
            ({}, b"{}", None),
        ],
    )
    async def test_an_override_replaces_the_key(
        self, headers: dict[str, str], body: bytes, expected: str | None
    ) -> None:
        """Where it is given and not blank."""
        assert await keys.extract(keys.openclaw(), Request(headers, body)) == expected

    async def test_both_may_be_in_the_body(self) -> None:
        """And scoping goes around both."""
        extractor = keys.scoped_by(sync_user, keys.overridable(keys.json_body("id"), keys.json_body("override")))
        assert await keys.extract(extractor, Request(body=b'{"id": "a", "override": "b"}', user="u")) == "u/b"
        assert await keys.extract(extractor, Request(body=b'{"id": "a"}', user="u")) == "u/a"


async def test_openai_chat_prefers_the_header() -> None:
    """The body is read only without it."""
    body = b'{"user": "u", "metadata": {"session_id": "meta"}}'
    assert await keys.extract(keys.openai_chat(), Request({"x-session-key": "head"}, body)) == "head"
    assert await keys.extract(keys.openai_chat(), Request(body=body)) == "meta"
    assert await keys.extract(keys.openai_chat(), Request(body=b'{"user": "u"}')) is None


def returns_a_number(_: Request) -> Any:
    """Break the contract."""
    return 42


async def returns_a_number_later(_: Request) -> Any:
    """Break the contract."""
    return 42


@pytest.mark.parametrize("extractor", [returns_a_number, returns_a_number_later])
async def test_a_callable_must_return_text(extractor: keys.KeyExtractor) -> None:
    """Anything else is a mistake in the server, reported as such and not used as a key."""
    with pytest.raises(TypeError, match="must return a str or None, not int"):
        await keys.extract(extractor, Request())
    with pytest.raises(TypeError, match="must return a str or None, not int"):
        await keys.extract(keys.scoped_by(extractor, keys.header("x-key")), Request({"x-key": "a"}))


class TestFromSetting:
    """keys.from_setting."""

    def test_a_string_is_a_header_name(self) -> None:
        """The shortest setting there is."""
        assert keys.from_setting("X-Key") == keys.header("x-key")

    def test_a_callable_is_itself(self) -> None:
        """Whether ours or the user's."""
        assert keys.from_setting(sync_user) is sync_user

    @pytest.mark.parametrize("setting", ["", " ", "two words", None, 7])
    def test_refuses_anything_else(self, setting: object) -> None:
        """A bad setting fails when it is made."""
        with pytest.raises(ValueError, match="header"):
            keys.from_setting(cast("str", setting))


def test_attributes_speak_for_a_callable_of_the_user() -> None:
    """A callable may say that it reads the body, is scoped, and what it reads."""

    class Mine:
        needs_body = True
        scoped = True
        param = "my field"

        def __call__(self, connection: keys.Connection) -> str | None:
            return None

    assert keys.needs_body(Mine())
    assert keys.is_scoped(Mine())
    assert keys.param_of(Mine()) == "my field"
    assert "this server reads it from" in keys.param_of(sync_user)
