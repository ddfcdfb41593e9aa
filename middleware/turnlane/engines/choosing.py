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

    Raises:
        ValueError: there is no such engine.
    """
    if isinstance(url, Engine):
        return _Given(url)
    if not isinstance(url, str):
        raise ValueError(f"lanes need a URL or an engine, not {url!r}")
    scheme, _, rest = url.partition("://")
    if scheme == "file" and rest.startswith("/"):
        from turnlane.engines.local import LocalEngine  # not on Windows

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
    raise ValueError(
        "lanes live in 'memory://', 'file:///directory', 'redis://host' or 'postgresql://host/database'; "
        f"{scheme!r} names no engine there is"
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
