"""URLs, and text that PostgreSQL can not hold."""

import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlane.postgresql import Database, address_in, restored, storable, stored
from turnlane.sessions import PostgresqlSessionStore, Sessions

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgres://user@host:5433/db", "postgresql://user@host:5433/db"),
        (f"postgresql://user:{SECRET}@host/db", "postgresql://user@host/db"),
        (f"postgresql://user:a:{SECRET}@[::1]:5432/db?schema=mine", "postgresql://user@[::1]:5432/db?schema=mine"),
        (f"postgresql:///db?host=/run/pg&user=me&password={SECRET}", "postgresql:///db?host=/run/pg"),
        (f"postgresql://u:{SECRET}@a:1,b:2/db?sslmode=require", "postgresql://u@a:1,b:2/db"),
        ("postgresql://", "postgresql://"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, where: str) -> None:
    """In the name of the store and every repr; two spellings of one place are told alike."""
    address = address_in(url)
    assert address.where == where
    assert (SECRET in address.dsn) == (SECRET in url)
    for shown in (address, Database(url), PostgresqlSessionStore(url), Sessions(url)):
        assert SECRET not in repr(shown)
    assert "schema=" not in address.dsn
    assert pickle.loads(pickle.dumps(address)) == address


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}#x@host/db",
        f"postgresql://user:{SECRET}/x@host/db",
        f"postgresql://user:x@{SECRET}@host/db",
        f"postgresql://user:x@y:{SECRET}@host/db",
        f"postgresql://user:{SECRET}?x@host/db",
        f"postgresql://user:x@host/{SECRET}@x",
        f"postgresql://user:{SECRET}@[host/db",
        f"postgresql://user:{SECRET}@host:port/db",
        f"postgresql://user:{SECRET}@host/db?conect_timeout=1",
        f"postgresql://user:{SECRET}@host/db?schema=Mine",
        f"postgresql://user:{SECRET}@host/db?schema=pg_mine",
        f"postgresql://user:{SECRET}@host/db?schema",
    ],
)
def test_a_url_that_is_not_understood_is_not_shown(url: str) -> None:
    """What is wrong is told without the URL, since any part of it may be the password."""
    with pytest.raises(ValueError, match=r"postgresql://|schema must") as caught:
        Sessions(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value, chain=True)[-1:])
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("settings", [{"timeout": 0.0}, {"timeout": float("inf")}, {"pool_size": 0}])
def test_bounds_are_checked_where_they_are_given(settings: dict[str, float]) -> None:
    """A wait without a bound, and a pool without a connection, are refused at construction."""
    with pytest.raises(ValueError, match=r"timeout|pool_size"):
        Database("postgresql://host/db", **settings)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


STRANGE = st.text(st.sampled_from("\0\1\2\3a0f\ud800\udfff\uffff\U0001f600"), max_size=6)


@given(STRANGE)
def test_strange_text_comes_back(text: str) -> None:
    """What stands for a text holds nothing that PostgreSQL can not, and stands for nothing else."""
    column = stored(text)
    assert "\0" not in column
    column.encode()
    assert restored(column) == text
    assert "\0" not in storable(text)
    storable(text).encode()


@given(st.text(max_size=6), st.text(max_size=6))
def test_text_keeps_its_order(left: str, right: str) -> None:
    """By code point, and what starts with what."""
    assert (stored(left) < stored(right)) == (left < right)
    assert stored(left + right).startswith(stored(left))
