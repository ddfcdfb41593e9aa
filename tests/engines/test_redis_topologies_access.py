"""Ways to a Redis server: TLS, users and passwords, a socket in the file system, numbers of databases."""

import asyncio
import logging
import uuid
from collections.abc import Generator
from functools import partial
from pathlib import Path

import pytest

from engines.redis_rig import engines, made_known
from support.certificates import Authority, Certificate
from support.redis_servers import RedisServer, debian_program, private_redis
from turnlane import Lanes
from turnlane.engines import Granted
from turnlane.engines.redis import RedisEngine
from turnlane.errors import EngineUnavailable, SessionStoreUnavailable
from turnlane.sessions import RedisSessionStore, Sessions
from turnlane.testing import engine_suite, session_store_suite

PATIENCE = 1.8  # seconds; a third of them for each attempt
SECRET, USER_SECRET = "correct horse/@:", "battery staple"
QUOTED, USER_QUOTED = "correct%20horse%2F%40%3A", "battery%20staple"

# What README and the engine name as the least a user needs.
RIGHTS = (
    "resetchannels ~{turnlane:* &turnlane:* -@all +ping +select +subscribe +publish +eval +evalsha +time "
    "+@hash +@sortedset +@string +exists +del +type +pexpire"
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Certificate:
    return authority.signs("server", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def tls_server(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, own: Certificate
) -> Generator[RedisServer, None, None]:
    """One that speaks TLS alone, and takes who has a password."""
    options = (
        *("--port", "0", "--tls-port", "{port}", "--tls-cert-file", own.certificate, "--tls-key-file", own.key),
        *("--tls-ca-cert-file", authority.file, "--tls-auth-clients", "no", "--requirepass", SECRET),
    )
    with private_redis(tmp_path_factory.mktemp("tls"), *options, program=debian_program()) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[RedisServer, None, None]:
    """One with a password, a user of few rights, and a socket."""
    directory = tmp_path_factory.mktemp("server")
    options = ("--requirepass", SECRET, "--unixsocket", str(directory / "r s"), "--unixsocketperm", "700")
    with private_redis(directory, *options) as found:
        with found.client(password=SECRET) as client:
            client.execute_command("ACL", "SETUSER", "few", "on", f">{USER_SECRET}", *RIGHTS.split())
            client.execute_command("ACL", "SETUSER", "mute", "on", f">{USER_SECRET}", *RIGHTS.split(), "-publish")
        yield found


def prefixed(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}prefix=turnlane:{uuid.uuid4().hex}"


async def keeps_its_promises(url: str, *, every: int = 6) -> None:
    """Lanes and sessions at a URL."""
    for check in engine_suite.CHECKS[::every]:
        place = prefixed(url)
        await made_known(place)
        await check(partial(RedisEngine, place))
    for store_check in session_store_suite.CHECKS[::every]:
        async with RedisSessionStore(prefixed(url)) as store:
            await store_check(store)


async def is_refused(url: str, hint: str, caplog: pytest.LogCaptureFixture, *, with_turn: bool = False) -> None:
    """Both tell why, and where, and never how to get in; nothing is logged of that either."""
    caplog.set_level(logging.DEBUG)
    engine, store = RedisEngine(url, timeout=PATIENCE), RedisSessionStore(url, timeout=PATIENCE)
    lanes, sessions = await asyncio.gather(
        engine.open("w", lambda _: None), Sessions(store).resolve("k"), return_exceptions=True
    )
    await engine.aclose()
    await store.aclose()
    assert isinstance(lanes, EngineUnavailable)
    assert isinstance(sessions, SessionStoreUnavailable)
    assert hint in str(lanes)
    assert hint in str(sessions)
    told: list[object] = [engine, lanes, sessions]
    async with Lanes(RedisEngine(url, timeout=PATIENCE)) as both:
        told += [both, both.url]
        if with_turn:  # it tries for two seconds
            with pytest.raises(EngineUnavailable, match=hint) as turn:
                async with both.turn("k"):
                    pass
            told.append(turn.value)
    assert engine.where in str(lanes)
    assert engine.where in str(sessions)
    text = "\n".join([*(f"{each!r} {each}" for each in told), caplog.text])
    for secret in (SECRET, QUOTED, USER_SECRET, USER_QUOTED, "wrong-one"):
        assert secret not in text


def tls_url(server: RedisServer, authority: Authority, *, password: str = QUOTED, host: str = "127.0.0.1") -> str:
    return f"rediss://:{password}@{host}:{server.port}/0?ssl_ca_certs={authority.file}"


async def test_lanes_and_sessions_over_tls(tls_server: RedisServer, authority: Authority) -> None:
    """With the authority the URL names."""
    await keeps_its_promises(tls_url(tls_server, authority))


async def test_certificates_that_are_not_to_be_trusted(
    tls_server: RedisServer, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of another authority, for another name, of one that no file tells of; and no TLS at all."""
    another = Authority(tmp_path)
    for url, hint in (
        (tls_url(tls_server, another), "certificate verify failed"),
        (tls_url(tls_server, authority, host="localhost"), "certificate verify failed"),
        (f"rediss://:{QUOTED}@127.0.0.1:{tls_server.port}/0", "certificate verify failed"),
        (f"rediss://:{QUOTED}@127.0.0.1:{tls_server.port}/0?ssl_ca_certs={tmp_path}/none.pem", "No such file"),
        (f"redis://:{QUOTED}@127.0.0.1:{tls_server.port}/0", "could not"),
        (tls_url(tls_server, authority, password="wrong-one"), "WRONGPASS"),
    ):
        await is_refused(url, hint, caplog)


async def test_a_server_that_wants_certificates_of_its_clients(
    tmp_path: Path, authority: Authority, own: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    """Gets the one the URL names."""
    client = authority.signs("client")
    options = (
        *("--port", "0", "--tls-port", "{port}", "--tls-cert-file", own.certificate, "--tls-key-file", own.key),
        *("--tls-ca-cert-file", authority.file, "--tls-auth-clients", "yes"),
    )
    with private_redis(tmp_path, *options, program=debian_program()) as server:
        url = f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs={authority.file}"
        await is_refused(url, "could not", caplog)
        await keeps_its_promises(f"{url}&ssl_certfile={client.certificate}&ssl_keyfile={client.key}", every=20)


async def test_a_user_needs_few_rights(server: RedisServer, long_form: bool) -> None:
    """Those that are documented, on keys and channels with the prefix."""
    await keeps_its_promises(f"redis://few:{USER_QUOTED}@127.0.0.1:{server.port}/0", every=1 if long_form else 3)


async def test_a_user_who_may_not_is_told_so_before_anything_is_done(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A script that is stopped in its middle would leave half a step."""
    few = f"redis://few:{USER_QUOTED}@127.0.0.1:{server.port}/0"
    place = prefixed(few)
    await made_known(place)
    mute = RedisEngine(place.replace("few:", "mute:"))
    with pytest.raises(EngineUnavailable, match="NOPERM"):
        await mute.open("w", lambda _: None)
    await mute.aclose()
    await is_refused(few + "?prefix=elsewhere", "NOPERM", caplog)


@pytest.mark.parametrize(
    ("login", "hint"),
    [(":wrong-one@", "WRONGPASS"), ("few:wrong-one@", "WRONGPASS"), (f"nobody:{QUOTED}@", "WRONGPASS"), ("", "NOAUTH")],
)
async def test_who_is_not_let_in_is_told_so(
    server: RedisServer, caplog: pytest.LogCaptureFixture, login: str, hint: str
) -> None:
    """By lanes and by sessions."""
    await is_refused(f"redis://{login}127.0.0.1:{server.port}/0", hint, caplog, with_turn=not login)


async def test_a_socket_in_the_file_system(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """With a path that needs quoting, a password and a database."""
    path = str(server.directory / "r%20s")
    await keeps_its_promises(f"redis+unix://:{QUOTED}@{path}?db=3")
    await is_refused(f"redis+unix://:{QUOTED}@{path}x?db=3", "No such file", caplog)


async def test_databases_are_apart(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """A lane of the same name and prefix in each; one there is not is told."""
    place = f"redis://:{QUOTED}@127.0.0.1:{server.port}"
    prefix = f"?prefix=turnlane:{uuid.uuid4().hex}"
    for number in (2, 3):
        await made_known(f"{place}/{number}{prefix}")
    async with engines(f"{place}/2{prefix}", 1) as (a,), engines(f"{place}/3{prefix}", 2) as (b, c):
        held = await a.hold()
        other = await b.hold()
        waiting = await c.stand()
        await a.leave(held.ticket)
        await b.leave(other.ticket)
        assert (await c.told(Granted, waiting)).token > other.token
    await is_refused(f"{place}/99{prefix}", "DB index is out of range", caplog)
