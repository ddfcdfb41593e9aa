"""A million requests of all kinds through every extractor: nothing raises, nothing is lost, nothing is left behind."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.fuzz_requests import draw_request
from support.fuzz_run import Campaign, alone, driven, generator_of, together
from support.fuzz_targets import TARGETS, target_at

ALONE = ("passed", "in its lane", "broken off", "client gone", "400", "413", "422", "503")
TOGETHER = (*ALONE, "in its lane after a wait", "cancelled", "409", "429")


@pytest.mark.parametrize("campaign", [(16_000, 800_000)], indirect=True, ids=["requests"])
async def test_requests_alone(campaign: Campaign) -> None:
    """Each runs once with its exact body, or is refused in good form, and leaves its lane free."""
    tally = await alone(campaign, "test_requests_alone")
    print(tally)
    assert campaign.only is not None or not set(ALONE) - set(tally.outcomes), "not every outcome was seen"


@pytest.mark.parametrize("campaign", [(1_000, 50_000)], indirect=True, ids=["meetings"])
async def test_requests_that_meet(campaign: Campaign) -> None:
    """The same for requests that wait for one another while clients leave and calls are cancelled."""
    tally = await together(campaign, "test_requests_that_meet")
    print(tally)
    assert campaign.only is not None or not set(TOGETHER) - set(tally.outcomes), "not every outcome was seen"


@pytest.mark.parametrize("kind", ["websocket", "lifespan", "a type to come"])
async def test_other_scopes_pass_untouched(kind: str, seed: int) -> None:
    """Whatever is in them: the app is given the very objects the server made."""
    called: list[tuple[Any, ...]] = []

    async def app(*arguments: Any) -> None:
        called.append(arguments)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def send(message: Any) -> None:
        raise AssertionError("nothing is sent")

    servers: tuple[Callable[..., Awaitable[Any]], ...] = (receive, send)
    for number in range(len(TARGETS)):
        drawn = draw_request(generator_of(seed, number), "scope")
        scope = {**drawn.scope(), "type": kind}
        before = dict(scope)
        _, error = driven(target_at(app, number).middleware(scope, *servers))
        assert error is None, f"seed {seed}, number {number}: {error!r}"
        (given,) = called
        assert [*map(id, given)] == [id(scope), *map(id, servers)]
        assert scope == before
        called.clear()
