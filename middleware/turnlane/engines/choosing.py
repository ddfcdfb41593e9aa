"""Which engine a setting names."""

from collections.abc import Callable
from urllib.parse import unquote

from turnlane.engines.base import Engine
from turnlane.errors import NotConfigured
from turnlane.postgresql import is_postgresql
from turnlane.redis import is_redis

__all__ = ("maker_of", "where_of")


def where_of(url: str | Engine) -> str:
    """Return what names the place of lanes in logs and errors: the URL without a password."""
    if isinstance(url, Engine):
        return url.where
    return url if url == "memory://" else maker_of(url)().where


def maker_of(url: str | Engine) -> Callable[[], Engine]:
    """Return what makes the engine that a URL names, as often as it is needed; of an engine, that one, once.

    Options of an engine are in its URL: `redis://host?prefix=app&lease=30`,
    `postgresql://proxy/database?schema=app&lease=30&listen_dsn=postgresql%3A%2F%2Fserver%2Fdatabase`.

    Raises:
        ValueError: there is no such engine, or it has no such option.
    """
    if isinstance(url, Engine):
        return _Given(url)
    if not isinstance(url, str):
        raise ValueError(f"lanes need a URL or an engine, not {url!r}")
    scheme, separator, rest = url.partition("://")
    if scheme == "file" and separator and not rest.startswith("/"):
        raise ValueError(
            "lanes in a directory are named by its absolute path, with three slashes: file:///run/my-app/lanes"
        )
    if scheme == "file" and separator:
        from turnlane.engines.local import LocalEngine  # not on Windows

        if "?" in rest:
            raise ValueError("lanes in a directory have no options; a ? in its name is %3F in its URL")
        directory = unquote(rest)
        LocalEngine(directory)  # what is wrong with it is told where it is given
        return lambda: LocalEngine(directory)
    if is_redis(scheme):
        from turnlane.engines.redis import RedisEngine  # a module of its own for each engine

        RedisEngine(url)  # what is wrong with it is told where it is given
        return lambda: RedisEngine(url)
    if is_postgresql(url):
        from turnlane.engines.postgresql import PostgresqlEngine

        PostgresqlEngine(url)
        return lambda: PostgresqlEngine(url)
    # Without its separator all of it would be shown, and any part of it may be a password.
    what = repr(scheme) if separator else "this, which has no ://,"
    raise ValueError(
        "lanes live in 'memory://', 'file:///directory', 'redis://host' or 'postgresql://host/database'; "
        f"{what} names no engine there is"
    )


class _Given:
    """Mutable: `_engine`, until it was used."""

    def __init__(self, engine: Engine) -> None:
        self._engine: Engine | None = engine

    def __call__(self) -> Engine:
        engine, self._engine = self._engine, None
        if engine is None:
            raise NotConfigured("the engine these lanes were given is used up, by closing or a fork; give them a URL")
        return engine
