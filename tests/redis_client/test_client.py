"""The client: bounded, repeated where nobody answers, of no event loop, not of a forked child."""

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from support.net_faults import Action, Fault, FaultProxy, fault_proxy
from support.redis_servers import RedisServer, key_prefix, private_redis, redis_server
from turnlane.begun import begin
from turnlane.errors import NotConfigured
from turnlane.redis import Forked, RedisClient, Refused, Script, Unreachable, address_in, script_in

posix = pytest.mark.skipif(sys.platform == "win32", reason="fork")
COUNT = Script("count", "return redis.call('INCR', KEYS[1])", "3f0da3c4b5b7bd3d1f8a6cd5a5c1b7a0f4e1d8c2")


@pytest.fixture
def key() -> Iterator[str]:
    """The name of a key that is not there."""
    with key_prefix() as prefix:
        yield f"{{{prefix}}}:k"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    with private_redis(tmp_path) as running:
        yield running


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[FaultProxy]:
    """A proxy before that server."""
    async with fault_proxy("127.0.0.1", server.port) as running:
        yield running


def client_of(where: FaultProxy | RedisServer, *, timeout: float = 5.0, most: int = 20) -> RedisClient:
    return RedisClient(address_in(f"redis://127.0.0.1:{where.port}"), timeout=timeout, most=most)


async def test_a_script_is_sent_where_the_server_does_not_know_it(key: str) -> None:
    """By its digest, and in full after NOSCRIPT; the digest here is nobody's."""
    client = RedisClient(address_in(redis_server()), timeout=5)
    assert await client.run(COUNT, (key,), ()) == 1
    assert await client.run(COUNT, (key,), ()) == 2
    assert await client.command("GET", key) == b"2"
    await client.aclose()


def test_a_script_is_read_from_its_file() -> None:
    """By name, with the digest the server gives it."""
    script = script_in("turnlane.sessions", "touch")
    assert (script.name, len(script.sha)) == ("touch", 40)
    assert "last_activity_at" in script.text


async def test_what_the_server_refuses_is_raised_with_its_code(key: str) -> None:
    """And the connection is used again."""
    client = RedisClient(address_in(redis_server()), timeout=5)
    await client.command("SET", key, "text")
    with pytest.raises(Refused, match="WRONGTYPE") as caught:
        await client.command("HGET", key, "x")
    assert caught.value.code == "WRONGTYPE"
    with pytest.raises(Refused, match="unknown command"):
        await client.command("NOSUCHCOMMAND", key)
    assert await client.command("GET", key) == b"text"
    await client.aclose()


async def test_a_refused_connection_is_never_sent(tmp_path: Path) -> None:
    """A server that is not there has not got anything; the time is bounded, and the message says where."""
    with private_redis(tmp_path) as server:
        pass
    client = client_of(server, timeout=0.2)
    async with asyncio.timeout(5):
        with pytest.raises(Unreachable, match=f"no answer within 0.2 s: .*{server.port}") as caught:
            await client.command("INCR", "k")
    assert not caught.value.sent
    await client.aclose()


async def test_a_server_that_stands_still_may_have_got_it(server: RedisServer) -> None:
    """No answer in time: sent. What was sent is done when the server goes on."""
    client = client_of(server, timeout=2)
    assert await client.command("INCR", "k") == 1
    with server.stopped():
        async with asyncio.timeout(5):
            with pytest.raises(Unreachable) as caught:
                await client.command("INCR", "k")
    assert caught.value.sent
    await client.aclose()


@pytest.mark.parametrize("action", ["reset", "cut", "swallow"])
async def test_an_operation_whose_answer_is_lost_is_asked_for_again(proxy: FaultProxy, action: Action) -> None:
    """The command is done twice, as it says; the second answer is returned."""
    client = client_of(proxy, timeout=3)
    assert await client.command("INCR", "k") == 1
    proxy.arm(Fault(direction="down", action=action))
    assert await client.command("INCR", "k") == 3
    await client.aclose()


async def test_a_refusal_after_a_lost_answer_leaves_the_outcome_unknown(proxy: FaultProxy) -> None:
    """The first may have been done: what refuses the second says nothing of it."""
    client = client_of(proxy)
    await client.command("SET", "k", "text")
    proxy.arm(Fault(direction="down"))
    with pytest.raises(Unreachable, match=r"no answer at first, and then: .*WRONGTYPE") as caught:
        await client.command("HGET", "k", "x")
    assert caught.value.sent
    await client.aclose()


async def test_connections_of_a_server_that_went_are_not_used_again(server: RedisServer) -> None:
    """After a restart the first of many idle connections finds out, the others are dropped with it."""
    client = client_of(server)
    await asyncio.gather(*(client.command("INCR", "k") for _ in range(10)))
    server.kill()
    server.start()
    assert await client.command("INCR", "k") == 1
    await client.aclose()


async def test_a_connection_that_broke_unused_is_made_again(proxy: FaultProxy) -> None:
    """Also on the CPythons whose transports raise AttributeError when several buffers are written after their end."""
    client = client_of(proxy)
    await asyncio.gather(*(client.command("INCR", "k") for _ in range(3)))
    proxy.reset_all()
    for _ in range(50):  # the client's ends hear of it
        await asyncio.sleep(0)
    assert await client.command("INCR", "k") == 4
    await client.aclose()


async def test_a_connection_the_server_has_closed_is_sent_nothing(server: RedisServer) -> None:
    """Also where the command is begun in no task; who asked is not told that it may have been done."""
    client, loop = client_of(server, timeout=2), asyncio.get_running_loop()
    await client.command("GET", "k")
    connections: Any = client._loops[loop].connections  # pyright: ignore[reportPrivateUsage]
    [[wire]] = connections._idle.values()
    server.kill()
    async with asyncio.timeout(10):
        assert await wire._reader.read(1) == b""
    found: asyncio.Future[Any] = loop.create_future()
    loop.call_soon(lambda: found.set_result(begin(client.command("GET", "k"))))
    with pytest.raises(Unreachable) as raised:
        await (await found)
    assert not raised.value.sent
    await client.aclose()


async def test_a_server_that_can_not_do_it_now_is_asked_again(server: RedisServer) -> None:
    """READONLY of a replica, and the like, are answers that mean: not now."""
    client = client_of(server)
    with server.client() as outside:
        outside.replicaof("127.0.0.1", server.port)
        asking = asyncio.ensure_future(client.command("SET", "k", "v"))
        told = b""
        while b"errorstat_READONLY" not in told:
            told = cast("bytes", await client.about("INFO", "errorstats", key="k"))
        outside.replicaof("NO", "ONE")
    assert await asking == b"OK"
    await client.aclose()


async def test_more_than_there_are_connections_wait_for_one(proxy: FaultProxy) -> None:
    """`most` bounds the connections, and nobody is refused for it."""
    client = client_of(proxy, most=3)
    answers = await asyncio.gather(*(client.command("INCR", "k") for _ in range(50)))
    assert set(answers) == set(range(1, 51))
    assert proxy.accepted == 3
    await client.aclose()


async def test_a_cancelled_command_leaves_no_answer_for_the_next(proxy: FaultProxy) -> None:
    """Its connection is closed with it: nobody reads what another has asked for."""
    client = client_of(proxy)
    await client.command("SET", "other", "wrong")
    await client.command("SET", "k", "right")
    for _ in range(100):
        asking = asyncio.ensure_future(client.command("GET", "other"))
        for _ in range(3):
            await asyncio.sleep(0)
        asking.cancel()
        assert await client.command("GET", "k") == b"right"
        await asyncio.wait((asking,))
    await client.aclose()


async def test_closing_waits_for_what_has_begun(server: RedisServer, proxy: FaultProxy) -> None:
    """A command that was sent gets its answer; afterwards the client opens anew."""
    client = client_of(proxy)
    await client.command("INCR", "k")
    proxy.arm(Fault(direction="down", action="delay", seconds=0.1))
    asking = asyncio.ensure_future(client.command("INCR", "k"))
    await proxy.struck.wait()
    await client.aclose()
    assert await asking == 2
    assert not client.is_open
    assert await client.command("INCR", "k") == 3
    await client.aclose()


def test_one_client_serves_loops_one_after_the_other(key: str) -> None:
    """Each has connections of its own, closed at its end; nothing is left to complain of."""
    client = RedisClient(address_in(redis_server()), timeout=5)
    for n in range(3):
        assert asyncio.run(client.command("INCR", key)) == n + 1
        assert not client.is_open
    gc.collect()


async def test_one_client_serves_loops_of_several_threads(key: str) -> None:
    """At the same time, and closing here closes there."""
    client = RedisClient(address_in(redis_server()), timeout=5)

    def other() -> None:
        async def many() -> None:
            await asyncio.gather(*(client.command("INCR", key) for _ in range(50)))

        asyncio.run(many())

    await asyncio.gather(asyncio.to_thread(other), asyncio.to_thread(other), client.command("INCR", key))
    assert await client.command("GET", key) == b"101"
    await client.aclose()


@posix
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_forked_child_is_told_and_disturbs_nobody(key: str) -> None:
    """Forked inside a running loop, with connections open: the parent's go on after the child has ended."""
    client = RedisClient(address_in(redis_server()), timeout=5)
    assert await client.command("INCR", key) == 1
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio._set_running_loop(None)  # else the child could run no other
            with pytest.raises(Forked):
                asyncio.run(client.command("INCR", key))
            asyncio.run(client.aclose())
            del client
            gc.collect()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1]) == 0
    assert await client.command("INCR", key) == 2
    await client.aclose()


async def test_a_wrong_password_is_told_at_once_and_not_shown(server: RedisServer) -> None:
    """No repetition helps; neither the message nor the object holds it."""
    with server.client() as outside:
        outside.config_set("requirepass", "right")
    wrong = RedisClient(address_in(f"redis://:s3cret@127.0.0.1:{server.port}"), timeout=60)
    with pytest.raises(Refused) as caught:
        await wrong.command("GET", "k")
    assert caught.value.code == "WRONGPASS"
    assert "s3cret" not in f"{caught.value!s} {caught.value!r} {wrong!r} {wrong.where}"
    right = RedisClient(address_in(f"redis://:right@127.0.0.1:{server.port}/3"), timeout=5)
    assert await right.command("INCR", "k") == 1
    unauthenticated = RedisClient(address_in(f"redis://127.0.0.1:{server.port}"), timeout=60)
    with pytest.raises(Refused, match="required"):
        await unauthenticated.command("GET", "k")
    for client in (wrong, right, unauthenticated):
        await client.aclose()


async def test_a_connection_of_ones_own_hears_what_is_published(server: RedisServer) -> None:
    """For subscriptions: it is nobody else's and is closed after use."""
    client = client_of(server)
    async with client.dedicated("k") as wire:
        await wire.send_command("SUBSCRIBE", "news")
        assert (await wire.read_response())[0] == b"subscribe"
        assert await client.about("PUBLISH", "news", "x", key="k") == 1
        assert await wire.read_response() == [b"message", b"news", b"x"]
    await client.aclose()


def test_without_the_driver_the_error_says_what_to_install() -> None:
    """At construction, and importing turnlane does not import the driver."""
    code = (
        "import sys, turnlane, turnlane.redis, turnlane.sessions\n"
        "assert 'redis' not in sys.modules\n"
        "sys.modules['redis'] = None\n"
        "try: turnlane.Sessions('redis://:s3cret@h')\n"
        "except turnlane.errors.NotConfigured as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "redis://h:6379/0 needs the package redis; add it with: pip install 'turnlane[redis]'\n"
    assert issubclass(NotConfigured, RuntimeError)
