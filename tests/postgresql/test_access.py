"""Ways to a server: TLS, passwords, a socket in the file system, several hosts."""

import logging
from collections.abc import Generator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import quote

import pytest

from support.certificates import Authority
from support.postgresql import connect
from support.postgresql_standbys import PostgresqlServer, a_server, a_standby_of
from turnlane import Lanes
from turnlane.engines.postgresql import PostgresqlEngine
from turnlane.errors import EngineUnavailable, SessionStoreUnavailable
from turnlane.postgresql.hosts import hosts_of
from turnlane.sessions import PostgresqlSessionStore, Sessions
from turnlane.testing import engine_suite, session_store_suite

SECRET = "correct horse/@:"
ACCESS = """
local all all trust
host all postgres 127.0.0.1/32 trust
hostssl all all 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True)
class Place:
    """A server, and who vouches for it."""

    server: PostgresqlServer
    authority: Authority

    def url(self, *, password: str = SECRET, host: str = "127.0.0.1", user: str = "lanes", **options: str) -> str:
        wanted = {"sslmode": "verify-full", "sslrootcert": self.authority.file} | options
        query = "&".join(f"{name}={value}" for name, value in wanted.items() if value)
        return f"postgresql://{user}:{quote(password, safe='')}@{host}:{self.server.port}/postgres?{query}"


numbers = count(1)


def new_schema(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}schema=t{next(numbers)}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Generator[Place, None, None]:
    """One that asks for a password of users who come by TLS, and lets nobody else in."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    own = authority.signs("server", "IP:127.0.0.1")
    with a_server(files=(own.certificate, own.key), access=ACCESS) as server:
        server.execute(f"CREATE ROLE lanes LOGIN PASSWORD '{SECRET}'; GRANT CREATE ON DATABASE postgres TO lanes")
        server.execute("CREATE ROLE poor LOGIN PASSWORD 'nothing-at-all'")
        yield Place(server, authority)


async def keep_their_promises(url: str) -> None:
    """Lanes and sessions at a URL."""
    place = new_schema(url)
    for check in engine_suite.CHECKS[::6]:
        await check(lambda: PostgresqlEngine(place))
        await execute(place, "TRUNCATE {0}.lane_place, {0}.lane_fate; DELETE FROM {0}.lane WHERE key <> E'\\x01'")
    for store_check in session_store_suite.CHECKS[::6]:
        async with PostgresqlSessionStore(place) as store:
            await store_check(store)
        await execute(place, "DELETE FROM {0}.session; UPDATE {0}.session_floor SET floor = 0")


async def execute(url: str, statement: str) -> None:
    connection = await connect(url)
    await connection.execute(statement.format(url.rpartition("schema=")[2]))
    await connection.close()


async def are_refused(url: str, hint: str, caplog: pytest.LogCaptureFixture) -> None:
    """Both tell why, and where, and never how to get in; nothing is logged of that either."""
    caplog.set_level(logging.DEBUG)
    engine = PostgresqlEngine(url, timeout=2.0)
    with pytest.raises(EngineUnavailable, match=hint) as lanes:
        await engine.open("w", lambda _: None)
    await engine.aclose()
    with pytest.raises(SessionStoreUnavailable, match=hint) as sessions:
        async with Sessions(PostgresqlSessionStore(url, timeout=2.0)) as store:
            await store.resolve("k")
    assert engine.where in str(lanes.value)
    assert engine.where in str(sessions.value)
    told = [lanes.value, sessions.value, engine, Lanes(url), Lanes(url).url]
    text = "\n".join([*(f"{each!r} {each}" for each in told), caplog.text])
    for secret in (SECRET, quote(SECRET, safe=""), "wrong-one", "nothing-at-all"):
        assert secret not in text


async def test_lanes_and_sessions_over_tls(place: Place) -> None:
    """The certificate is checked, and the name of the host, and the user has a password."""
    await keep_their_promises(place.url())


async def test_a_socket_in_the_file_system(place: Place) -> None:
    """Named as the host in the query."""
    directory = quote(str(place.server.directory), safe="")
    await keep_their_promises(f"postgresql://lanes@/postgres?host={directory}&port={place.server.port}")


async def test_who_is_not_to_be_trusted(place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server with a certificate of another authority, or for another name; nor is who comes without TLS."""
    await are_refused(place.url(sslrootcert=Authority(tmp_path).file), "certificate verify failed", caplog)
    await are_refused(place.url(host="localhost"), "certificate verify failed", caplog)
    await are_refused(place.url(sslmode="disable", sslrootcert=""), "refused the user", caplog)
    await are_refused(place.url(sslrootcert=f"{tmp_path}/none.pem"), "No such file", caplog)


async def test_who_is_not_let_in(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong password, a user there is not, one without rights, a database there is not."""
    await are_refused(place.url(password="wrong-one"), "refused the password", caplog)
    await are_refused(place.url(user="nobody"), "refused the password", caplog)
    poor = place.url(user="poor", password="nothing-at-all")
    await are_refused(poor, "a user who may has to make or change the schema", caplog)
    await are_refused(place.url().replace("/postgres?", "/none?"), "no such database", caplog)


async def test_a_user_who_may_only_use_the_schema(place: Place) -> None:
    """Which another has made: rights on its tables are enough."""
    url = new_schema(place.url())
    async with Lanes(PostgresqlEngine(url)) as lanes, lanes.turn("k"):
        pass
    schema = url.rpartition("schema=")[2]
    await execute(url, f"GRANT USAGE ON SCHEMA {schema} TO poor")
    poor = place.url(user="poor", password="nothing-at-all", schema=schema)
    engine = PostgresqlEngine(poor)
    with pytest.raises(EngineUnavailable, match="lacks the right"):
        await opened_and_used(engine)
    await engine.aclose()
    await execute(url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO poor")
    async with Lanes(PostgresqlEngine(poor)) as others, others.turn("k") as turn:
        assert turn.token > 0


async def opened_and_used(engine: PostgresqlEngine) -> None:
    await engine.open("w", lambda _: None)
    await engine.look()


async def test_of_several_hosts_the_one_that_takes_writes_is_used(place: Place) -> None:
    """Whichever comes first, whether the others are there, follow it, or say nothing at all."""
    server = place.server
    with a_standby_of(server) as standby:
        for ports in ((1, server.port), (standby.port, server.port), (server.port, standby.port)):
            hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
            options = "&target_session_attrs=primary" if ports[0] == server.port else ""
            await has_a_turn(f"postgresql://postgres@{hosts}/postgres?schema=several{options}")
        hosts = f"127.0.0.1:{standby.port},127.0.0.1:{server.port}"
        with standby.standing_still():
            await has_a_turn(f"postgresql://postgres@{hosts}/postgres?schema=several")
        with pytest.raises(EngineUnavailable, match="takes no writes"):
            await has_a_turn(f"postgresql://postgres@127.0.0.1:{standby.port}/postgres?schema=several")


async def has_a_turn(url: str) -> None:
    async with Lanes(PostgresqlEngine(url, timeout=2.0)) as lanes, lanes.turn("k") as turn:
        assert turn.token > 0


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("postgresql://u:p@a:1/d", ["postgresql://u:p@a:1/d"]),
        ("postgresql://u@/d", ["postgresql://u@/d"]),
        (
            "postgresql://u:p@a:1,[::1]:2,c/d?x=1",
            [f"postgresql://u:p@{each}/d?x=1" for each in ("a:1", "[::1]:2", "c")],
        ),
        ("postgresql://u@/d?host=a,b&port=1,2", ["postgresql://u@/d?host=a&port=1", "postgresql://u@/d?host=b&port=2"]),
        (
            "postgresql://u@/d?host=%2Fs,b&port=1",
            ["postgresql://u@/d?host=%2Fs&port=1", "postgresql://u@/d?host=b&port=1"],
        ),
        ("postgresql://u@/d?host=a,b", ["postgresql://u@/d?host=a", "postgresql://u@/d?host=b"]),
    ],
)
def test_a_url_names_hosts(dsn: str, hosts: list[str]) -> None:
    """In its middle, or in the query."""
    assert list(hosts_of(dsn)) == hosts
