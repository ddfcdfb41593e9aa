"""Caps of one principal over HTTP: for whom a request is, is known from its key, or from `principal=`."""

from typing import Any

import pytest

from support.asgi_staged import KEY, StagedApp, in_line, laned, post, serving
from turnlane import LaneMiddleware, Lanes, Runtime, keys
from turnlane.testing import Response

USER = "x-user"


def user_of(connection: Any) -> Any:
    return connection.headers.get(USER)


async def user_of_later(connection: Any) -> Any:
    return user_of(connection)


SCOPED = keys.scoped_by(user_of, KEY)
KNOWN: dict[str, dict[str, Any]] = {
    "in the key": {"key": SCOPED},
    "in a key of several": {"key": keys.first_of(keys.scoped_by(user_of, "x-other-key"), SCOPED)},
    "in a key that takes its time": {"key": keys.scoped_by(user_of_later, KEY)},
    "beside the key": {"key": KEY, "principal": user_of},
    "beside the key, later": {"key": KEY, "principal": user_of_later},
}


def refused(response: Response) -> tuple[int, str, bool]:
    return response.status, response.json()["error"]["code"], "retry-after" in response.headers


@pytest.mark.parametrize("known", KNOWN)
async def test_one_user_with_many_keys_runs_as_many_turns_as_may(known: str) -> None:
    """The second of ann's waits in a line of its own; bob, whose name holds a slash, is served meanwhile."""
    app, lanes = StagedApp(), Lanes(max_running_per_principal=1)
    middleware = laned(app, lanes=lanes, **KNOWN[known])
    async with serving(middleware) as driver:
        post(driver, "a", "first", headers={USER: "ann"})
        await app.entered("first")
        second = post(driver, "b", "second", headers={USER: "ann"})
        await in_line(middleware, 1)
        app.release("other")
        assert (await post(driver, "c", "other", headers={USER: "ann/c"}).response()).status == 200
        assert "second" not in app.turns
        app.release("first", "second")
        assert (await second.response()).status == 200


async def test_one_user_too_many_in_line_is_told_that_it_is_theirs() -> None:
    """429, which is what clients take for a limit of their own; another user may still wait."""
    app, lanes = StagedApp(), Lanes(max_waiting_per_principal=1)
    middleware = laned(app, lanes=lanes, key=KEY, principal=user_of)
    async with serving(middleware) as driver:
        post(driver, "a", "holder")
        await app.entered("holder")
        post(driver, "a", "one", headers={USER: "ann"})
        await in_line(middleware, 1)
        assert refused(await post(driver, "a", "two", headers={USER: "ann"}).response()) == (
            429,
            "principal_capacity",
            True,
        )
        post(driver, "a", "three", headers={USER: "bob"})
        await in_line(middleware, 2)
        app.release("holder", "one", "three")


@pytest.mark.parametrize("cap", ["max_running_per_principal", "max_waiting_per_principal"])
@pytest.mark.parametrize("key", [KEY, keys.first_of(SCOPED, "x-other")], ids=["a header", "scoped or not"])
def test_lanes_with_caps_must_be_told_for_whom_a_request_is(cap: str, key: Any) -> None:
    """Else the cap would hold nobody, and nobody would know."""
    caps: dict[str, Any] = {cap: 1}
    with pytest.raises(ValueError, match=r"scoped_by.*principal="):
        LaneMiddleware(StagedApp(), key=key, lanes=Lanes(**caps), trusted_keys=True)
    with pytest.raises(ValueError, match=r"scoped_by.*principal="):
        LaneMiddleware(StagedApp(), key=key, runtime=Runtime(lanes=Lanes(**caps)), trusted_keys=True)
