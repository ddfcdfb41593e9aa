"""What a server that refuses has said, whichever version of it words it how."""

from typing import Any

import pytest

from support.redis_servers import key_prefix, redis_server
from turnlane.redis import RedisClient, Refused, Script, Unreachable, address_in

REFUSES = Script("refuses", "return redis.error_reply(ARGV[1])", "0" * 40)
REFUSES_TWICE = Script(
    "refuses_twice",
    """
    local asked = redis.call('INCR', KEYS[1])
    return asked < 3 and redis.error_reply(ARGV[1]) or asked
    """,
    "1" * 40,
)
IN_SCRIPT = "ERR Error running script (call to f_0f): @user_script:16: "
OF_REDIS_6 = IN_SCRIPT + "@user_script: 16: "


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("WRONGTYPE Operation against a key", "WRONGTYPE"),
        (IN_SCRIPT + "WRONGTYPE Operation against a key", "WRONGTYPE"),
        (OF_REDIS_6 + "-OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
        (OF_REDIS_6 + "-NOREPLICAS Not enough good replicas to write.", "NOREPLICAS"),
        (OF_REDIS_6 + "The user executing the script can't run this command or subcommand", "NOPERM"),
        (OF_REDIS_6 + "The user executing the script can't access at least one of the keys", "NOPERM"),
        ("ERR The user executing the script can't run this command or subcommand script: 0f, on 1.", "NOPERM"),
        ("NOAUTH Authentication required.", "NOAUTH"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "WRONGPASS"),
    ],
)
async def test_a_refusal_has_its_code(said: str, code: str) -> None:
    """Also from inside a script."""
    client = RedisClient(address_in(redis_server()), timeout=5)
    with key_prefix() as prefix, pytest.raises(Refused) as caught:
        await client.run(REFUSES, (f"{{{prefix}}}:k",), (said,))
    assert caught.value.code == code
    assert caught.value.answer.startswith(code)
    await client.aclose()


@pytest.mark.parametrize("before", ["", OF_REDIS_6 + "-"], ids=["plain", "in a script"])
async def test_what_another_server_may_do_is_asked_again(before: str) -> None:
    """Until it is done."""
    client = RedisClient(address_in(redis_server()), timeout=30)
    with key_prefix() as prefix:
        told = before + "READONLY You can't write against a replica."
        assert await client.run(REFUSES_TWICE, (f"{{{prefix}}}:k",), (told,)) == 3
    await client.aclose()


async def test_what_is_refused_until_the_time_is_over_was_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt had the time to find that out, the last too."""
    client, patience = RedisClient(address_in(redis_server()), timeout=3), list[float]()
    tried = client._tried  # pyright: ignore[reportPrivateUsage]

    async def recorded(*arguments: Any) -> object:
        patience.append(arguments[-1])
        return await tried(*arguments)

    monkeypatch.setattr(client, "_tried", recorded)
    with key_prefix() as prefix, pytest.raises(Unreachable, match="READONLY") as caught:
        await client.run(REFUSES, (f"{{{prefix}}}:k",), ("READONLY You can't write against a replica.",))
    assert not caught.value.sent
    assert (patience[0], min(patience) >= 1 / 3) == (1, True)
    await client.aclose()
