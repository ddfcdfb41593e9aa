"""What the URL of lanes says beside the place."""

# pyright: reportPrivateUsage=false

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from support.postgresql import PostgresqlDatabase
from support.postgresql_lanes import engine_of
from support.postgresql_pgbouncer import pgbouncer_before
from support.redis_servers import redis_url
from turnlane import Lanes, Sessions
from turnlane.engines import Engine
from turnlane.engines.choosing import maker_of
from turnlane.engines.postgresql import PostgresqlEngine
from turnlane.engines.redis import RedisEngine

REDIS, POSTGRESQL = "redis://:s3cret@h", "postgresql://me:s3cret@h/d"


@pytest.mark.parametrize(
    ("url", "lease", "where"),
    [
        (REDIS, 15.0, "redis://h:6379/0"),
        (f"{REDIS}?lease=2", 2.0, "redis://h:6379/0"),
        (f"{REDIS}/3?prefix=a%26b&lease=0.5", 0.5, "redis://h:6379/3?prefix=a&b"),
        ("redis+cluster://h,i?lease=60&prefix=a", 60.0, "redis+cluster://h:6379,i:6379?prefix=a"),
        (POSTGRESQL, 15.0, "postgresql://me@h/d"),
        (f"{POSTGRESQL}?lease=2", 2.0, "postgresql://me@h/d"),
        (f"{POSTGRESQL}?sslmode=disable&lease=3&schema=a", 3.0, "postgresql://me@h/d?schema=a"),
        (f"{POSTGRESQL}?listen_dsn=postgresql%3A%2F%2Fme%3As3cret%40i%2Fd%3Fsslmode%3Ddisable", 15.0, None),
    ],
)
def test_a_url_says_how_long_a_lease_is(url: str, lease: float, where: str | None) -> None:
    """Wherever it stands among the others; what names the place in logs is the same without."""
    engine = maker_of(url)()
    assert engine.lease == lease
    assert engine.where == (where or "postgresql://me@h/d")
    assert "s3cret" not in f"{engine!r} {Lanes(url)!r}"


@pytest.mark.parametrize(("make", "url"), [(RedisEngine, REDIS), (PostgresqlEngine, POSTGRESQL)])
def test_what_the_url_says_counts(make: Callable[..., Engine], url: str) -> None:
    """As for the prefix: more than what is given beside it."""
    assert make(f"{url}?lease=2", lease=3).lease == 2
    assert make(url, lease=3).lease == 3


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        *(
            (f"{url}?lease={lease}", "number of seconds")
            for url in (REDIS, POSTGRESQL)
            for lease in ("", "2s", "s3cret")
        ),
        *(
            (f"{url}?lease={lease}", "lease must be")
            for url in (REDIS, POSTGRESQL)
            for lease in ("0", "-1", "nan", "inf")
        ),
        *((f"{url}?lease=2&lease=2", "'lease' twice") for url in (REDIS, POSTGRESQL)),
        (f"{REDIS}?lease=4000", "lease must be"),
        (f"{REDIS}?leese=2", "not leese"),
        (f"{REDIS}?listen_dsn=x", "not listen_dsn"),
        (f"{POSTGRESQL}?leese=2", "does not know 'leese'"),
        (f"{POSTGRESQL}?listen_dsn=", "postgresql:// URL"),
        (f"{POSTGRESQL}?listen_dsn=redis%3A%2F%2Fs3cret%40h", "postgresql:// URL"),
        ("file:///run/lanes?lease=2", "no options"),
        ("memory://?lease=2", "'memory'"),
        ("mysql://me:s3cret@h", "'mysql' names no engine"),
        ("redis:me:s3cret@h", "no ://, names no engine"),
        ("postgresql:/me:s3cret@h/d", "no ://, names no engine"),
        ("file://run/lanes", "absolute path"),
        ("file:lanes", "no ://, names no engine"),
    ],
)
def test_what_is_no_option_is_refused(url: str, hint: str) -> None:
    """Where lanes are made, without the password."""
    with pytest.raises(ValueError, match=hint) as caught:
        Lanes(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", [REDIS, POSTGRESQL])
def test_a_store_at_the_same_place_has_no_lease(url: str) -> None:
    """It says so where it is made."""
    with pytest.raises(ValueError, match="lease"):
        Sessions(f"{url}?lease=2")


async def test_lanes_in_redis_are_named_by_such_a_url() -> None:
    """One turn."""
    with redis_url() as url:
        async with Lanes(f"{url}&lease=2") as lanes, lanes.turn("k") as turn:
            assert turn.token > 0


async def test_lanes_behind_a_proxy_are_told_where_to_listen(postgresql: PostgresqlDatabase, tmp_path: Path) -> None:
    """In the URL; without it they look for notes."""
    url = postgresql.new_url()
    async with pgbouncer_before(url, tmp_path) as behind:
        for option, polls in (("", True), (f"&listen_dsn={quote(url, safe='')}", False)):
            async with Lanes(behind + option) as lanes, lanes.turn("k"):
                listener = engine_of(lanes)._listener
                assert listener is not None
                assert listener.is_polling is polls


@pytest.mark.parametrize("make", [Lanes, Sessions, RedisEngine])
@pytest.mark.parametrize("url", ["redis:/u:s3cret@h", "redis//:s3cret@h", "redis://u:s3?cret@h", "redis://u:s3/cret@h"])
def test_a_url_that_is_written_wrong_does_not_show_its_password(make: Callable[[str], object], url: str) -> None:
    """Where a slash is missing, or what is special in it is not percent-encoded."""
    with pytest.raises(ValueError, match=r"URL|names no engine") as refused:
        make(url)
    assert "cret" not in str(refused.value)
