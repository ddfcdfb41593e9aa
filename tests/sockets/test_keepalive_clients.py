"""Keep-alive and the real clients: of Python in two major versions, of Node, of Anthropic; over real sockets."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from support.net_streams import CLIENTS, Overheard, command_of, outcomes_of, scenario, serving_streams
from turnlane import KeepAlive, Lanes

pytestmark = [pytest.mark.sockets, pytest.mark.asyncio(loop_factories=["asyncio"])]

OFTEN = KeepAlive(after=0.2, every=0.05)
ANSWERED = "an answer"
LATE = "a wait that is too long after comment lines"
EARLY = "a wait that is too long before any"
APPS_ERROR = "an error of the app"
APPS_FAILURE = "a failure of the app"


@asynccontextmanager
async def occupied(lanes: Lanes, *keys: str) -> AsyncGenerator[asyncio.Event, None]:
    """Hold lanes until the event that is yielded is set, or the block ends."""
    over = asyncio.Event()

    async def hold(key: str) -> None:
        async with lanes.turn(key):
            held.release()
            await over.wait()

    held = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as group:
        for key in keys:
            group.create_task(hold(key))
        for _ in keys:
            await held.acquire()
        try:
            yield over
        finally:
            over.set()


async def let_go(overheard: Overheard, key: str, over: asyncio.Event) -> None:
    """Let a lane go once the one who waits for it has been sent three comment lines."""
    await overheard.heard(key, 3)
    over.set()


@pytest.mark.timeout(90)
@pytest.mark.parametrize("client", CLIENTS)
async def test_the_clients_read_what_comes_after_comment_lines(client: str) -> None:
    """The answer word by word, also with ids in it; errors with their codes, and after none a second request."""
    command = command_of(client)
    async with (
        serving_streams(OFTEN) as (port, lanes, overheard),
        occupied(lanes, ANSWERED) as answer,
        occupied(lanes, APPS_ERROR) as error,
        occupied(lanes, APPS_FAILURE) as failure,
        occupied(lanes, LATE, EARLY),
        asyncio.TaskGroup() as group,
    ):
        for key, over in ((ANSWERED, answer), (APPS_ERROR, error), (APPS_FAILURE, failure)):
            group.create_task(let_go(overheard, key, over))
        found = await outcomes_of(
            command,
            port,
            scenario(ANSWERED),
            scenario(APPS_ERROR),
            scenario(APPS_FAILURE),
            # The clients' own deadline bounds the wait.
            scenario(LATE, x_stainless_read_timeout="0.6"),
            scenario(EARLY, x_stainless_read_timeout="0.05", max_retries=0),
        )
    assert found[ANSWERED]["pieces"] == ["one", " two"]
    assert "code" not in found[ANSWERED]
    codes = {name: outcome.get("code") for name, outcome in found.items() if name != ANSWERED}
    assert codes == {
        APPS_ERROR: "model_not_found",
        APPS_FAILURE: "internal_error",
        LATE: "wait_timeout",
        EARLY: "wait_timeout",
    }
    assert "no such model" in found[APPS_ERROR]["message"]
    assert found[EARLY]["status"] == 503
    assert overheard.comments[EARLY] == 0
    assert all(overheard.comments[name] >= 3 for name in (ANSWERED, APPS_ERROR, APPS_FAILURE, LATE))
    assert set(overheard.requests.values()) == {1}
    versions = {int(outcome["version"].split(".")[0]) for outcome in found.values()}
    assert versions == ({1} if "older" in client else versions - {1})


async def test_what_is_missing_fails_on_ci_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of a developer need not have all of it."""
    monkeypatch.delenv("TURNLANE_CLIENTS", raising=False)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"bash .ci/clients"):
        command_of("openai for Node")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match=r"bash .ci/clients"):
        command_of("openai for Node")
