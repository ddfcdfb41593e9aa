"""What a request is answered that did not get its turn, or whose turn ended with an error."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_staged import KEY, StagedApp, laned, post, serving
from support.asgi_wire import Wire, scope_of
from turnlane import Enqueue, Interrupt, Lanes, Reject, errors, keys
from turnlane.asgi.refusals import TABLE, document_of, refusal_of, response_of, retry_after
from turnlane.testing import HttpRequest, ManualClock, Response

# status, code, the word for the family, whether to try again: the table of the contract, written out.
ROWS: dict[type[errors.TurnlaneError], tuple[int, str, str, bool]] = {
    errors.LaneBusy: (409, "lane_busy", "conflict_error", True),
    errors.LaneFull: (429, "lane_full", "rate_limit_error", True),
    errors.WaitTimeout: (503, "wait_timeout", "overloaded_error", True),
    errors.LanesDraining: (503, "draining", "overloaded_error", True),
    errors.CapacityExceeded: (503, "capacity", "overloaded_error", True),
    errors.PrincipalCapacityExceeded: (429, "principal_capacity", "rate_limit_error", True),
    errors.EngineUnavailable: (503, "engine_unavailable", "overloaded_error", True),
    errors.OutcomeUnknown: (503, "outcome_unknown", "overloaded_error", False),
    errors.TurnInterrupted: (409, "turn_interrupted", "conflict_error", False),
    errors.TurnCoalesced: (409, "turn_coalesced", "conflict_error", False),
    errors.TurnSteered: (409, "turn_steered", "conflict_error", False),
    errors.LaneReentry: (409, "lane_reentry", "conflict_error", False),
    errors.TurnTimeout: (504, "turn_timeout", "timeout_error", False),
    errors.ConsumerIdle: (504, "consumer_idle", "timeout_error", False),
    errors.SessionKeyRequired: (400, "session_key_required", "invalid_request_error", False),
    errors.SessionKeyInvalid: (422, "session_key_invalid", "invalid_request_error", False),
    errors.PolicyNotAllowed: (422, "policy_not_allowed", "invalid_request_error", False),
    errors.CallChainTooLong: (409, "call_chain_too_long", "conflict_error", False),
    errors.BodyTooLarge: (413, "body_too_large", "invalid_request_error", False),
    errors.IdempotencyKeyInvalid: (400, "idempotency_key_invalid", "invalid_request_error", False),
    errors.IdempotencyKeyReused: (422, "idempotency_key_reused", "invalid_request_error", False),
    errors.MessageTooLarge: (413, "message_too_large", "invalid_request_error", False),
    errors.DuplicateRunning: (409, "duplicate_running", "conflict_error", True),
    errors.DuplicateOfStream: (409, "duplicate_stream", "conflict_error", False),
    errors.DuplicateNotKept: (409, "duplicate_not_kept", "conflict_error", False),
    errors.DuplicateOutcomeUnknown: (409, "duplicate_outcome_unknown", "conflict_error", False),
    errors.DuplicatesUnavailable: (503, "duplicates_unavailable", "overloaded_error", True),
    errors.SessionConflict: (409, "session_conflict", "conflict_error", False),
    errors.SessionStoreUnavailable: (503, "session_store_unavailable", "overloaded_error", True),
    errors.SessionOutcomeUnknown: (503, "session_outcome_unknown", "overloaded_error", False),
    errors.SessionCorrupt: (500, "session_corrupt", "api_error", False),
}

WITH_LEAVES = {errors.CapacityExceeded, errors.OutcomeUnknown}
"""Classes that are raised themselves, though there are some below them."""

SECRET = "agent:main:a-secret-key"
EXAMPLES: dict[type[errors.TurnlaneError], errors.TurnlaneError] = {
    type(error): error
    for error in (
        errors.LaneBusy(SECRET, ahead=3),
        errors.LaneFull(SECRET, waiting=20, max_waiting=20),
        errors.WaitTimeout(SECRET, wait_timeout=1.5, holder="turn-holder"),
        errors.LanesDraining(SECRET),
        errors.CapacityExceeded(SECRET, resource="max_running", limit=7),
        errors.PrincipalCapacityExceeded(SECRET, resource="max_running_per_principal", limit=7),
        errors.EngineUnavailable("redis:///var/db", operation="acquire a lane", reason="reset", key=SECRET),
        errors.OutcomeUnknown("redis:///var/db", operation="drain", reason="reset", key=SECRET),
        errors.TurnInterrupted(SECRET, turn="turn-old", into="turn-new", running=True),
        errors.TurnCoalesced(SECRET, turn="turn-old", into="turn-new", result=SECRET),
        errors.TurnSteered(SECRET, turn="turn-old", into="turn-new"),
        errors.LaneReentry(SECRET, cycle=(SECRET, "other")),
        errors.TurnTimeout(SECRET, turn="turn-old", turn_timeout=2.0),
        errors.ConsumerIdle(SECRET, turn="turn-old", idle_consumer_timeout=2.0),
        errors.SessionKeyRequired("header x-key"),
        errors.SessionKeyInvalid("header x-key", reason="it holds the character U+0007"),
        errors.PolicyNotAllowed("header x-policy", reason="it is not allowed; use one of enqueue"),
        errors.CallChainTooLong(SECRET, turns=33, limit=32),
        errors.BodyTooLarge("header x-key", body_limit=10),
        errors.IdempotencyKeyInvalid("header idempotency-key", reason="it is empty"),
        errors.IdempotencyKeyReused("header idempotency-key"),
        errors.MessageTooLarge("header idempotency-key", body_limit=10),
        errors.DuplicateRunning("header idempotency-key"),
        errors.DuplicateOfStream("header idempotency-key"),
        errors.DuplicateNotKept("header idempotency-key", max_answer=10),
        errors.DuplicateOutcomeUnknown("header idempotency-key"),
        errors.DuplicatesUnavailable(where="/var/db/secret.db", operation="claim", reason="disk"),
        errors.SessionConflict(SECRET, expected_version=1, found_version=2),
        errors.SessionStoreUnavailable(SECRET, where="/var/db/secret.db", operation="read", reason="disk"),
        errors.SessionOutcomeUnknown(SECRET, where="redis://db.internal:6379/0", operation="change", reason="reset"),
        errors.SessionCorrupt(SECRET, where="/var/db/secret.db", reason="not JSON"),
    )
}


def checked(response: Response, error: type[errors.TurnlaneError]) -> dict[str, Any]:
    """Check a response against its row, and return its document."""
    status, code, kind, retry = ROWS[error]
    document: dict[str, Any] = response.json()
    assert response.status == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["content-length"] == str(len(response.body))
    assert response.headers["cache-control"] == "no-store"
    assert (document["type"], document["status"]) == ("about:blank", status)
    assert set(document["error"]) == {"message", "type", "param", "code"} | ({"into"} & set(document))
    assert (document["error"]["code"], document["error"]["type"]) == (code, kind)
    assert document["error"]["message"] == document["detail"]
    assert document["title"]
    if retry:
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert "x-should-retry" not in response.headers
    else:
        assert response.headers["x-should-retry"] == "false"
        assert "retry-after" not in response.headers
    assert ("into" in document) == issubclass(error, errors.TurnInterrupted | errors.TurnRedirected)
    assert document["error"].get("into") == document.get("into")
    assert SECRET not in response.text + str(response.headers)
    return document


def leaves(kind: type[errors.TurnlaneError]) -> list[type[errors.TurnlaneError]]:
    """Return the classes below one that have no classes below themselves."""
    ours = (child for child in kind.__subclasses__() if child.__module__.startswith("turnlane.errors"))
    below = [leaf for child in ours for leaf in leaves(child)]
    return below or [kind]


def test_every_error_a_request_can_meet_has_a_row_of_its_own() -> None:
    """A new error class needs a decision: status, code, and whether to try again."""
    families = (errors.LaneError, errors.SessionError, errors.RequestRefused, errors.DuplicatesUnavailable)
    assert {leaf for family in families for leaf in leaves(family)} | WITH_LEAVES == set(ROWS)
    assert set(ROWS) <= {row.error for row in TABLE}
    assert len({row.code for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", ["short", "sessions"])
async def test_an_error_of_the_app_becomes_its_row(kind: type[errors.TurnlaneError], way: str) -> None:
    """Raised before the response began, by whatever means the app came to it."""
    app = StagedApp()

    async def failing(_: Scope, __: Receive, ___: Send) -> None:
        raise EXAMPLES[kind].with_traceback(None)

    app.steps["it"] = failing
    async with serving(laned(app, way=way)) as driver:
        response = await post(driver, SECRET, "it").response()
    document = checked(response, kind)
    assert document.get("into") == (
        "turn-new" if issubclass(kind, errors.TurnInterrupted | errors.TurnRedirected) else None
    )
    assert "turn-holder" not in response.text
    assert "/var/db" not in response.text


async def test_a_turn_that_lost_its_lane_is_not_asked_for_again() -> None:
    """It had begun: unlike one that an engine out of reach has never let begin, it may have done something."""
    app = StagedApp()

    async def failing(_: Scope, __: Receive, ___: Send) -> None:
        raise errors.EngineUnavailable("here", operation="keep the lane", reason="lease", key=SECRET, turn="turn-1")

    app.steps["it"] = failing
    async with serving(laned(app, way="short")) as driver:
        response = await post(driver, SECRET, "it").response()
    assert (response.status, response.json()["error"]["code"]) == (503, "lane_lost")
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers


@pytest.mark.parametrize("family", [errors.LaneError, errors.SessionError, errors.RequestRefused])
async def test_an_error_of_somebody_elses_making_has_a_row(family: type[errors.TurnlaneError]) -> None:
    """A subclass this version does not know is answered as its family."""

    class Unknown(family):  # type: ignore[misc,valid-type]
        key = SECRET

    row = refusal_of(Unknown("what only the log may say"))
    assert row.error is family
    assert not row.retry
    assert "what only the log may say" not in json.dumps(document_of(Unknown("what only the log may say")))


class TestSituations:
    """The rows as requests meet them."""

    async def test_lane_busy(self, way: str) -> None:
        """`Reject` while a turn runs."""
        app = StagedApp()
        async with serving(laned(app, way=way, policy=Reject())) as driver:
            await held(app, post(driver, SECRET, "holder"))
            checked(await post(driver, SECRET, "it").response(), errors.LaneBusy)

    async def test_lane_full(self, way: str) -> None:
        """One more than may wait."""
        app = StagedApp()
        async with serving(laned(app, way=way, policy=Enqueue(max_waiting=1))) as driver:
            await held(app, post(driver, SECRET, "holder"))
            waiting = post(driver, SECRET, "waiting")
            await waiting.until_idle()
            checked(await post(driver, SECRET, "it").response(), errors.LaneFull)
            app.release("holder", "waiting")
            assert (await waiting.response()).status == 200

    async def test_wait_timeout(self, way: str) -> None:
        """Longer than `wait_timeout` in line."""
        app = StagedApp()
        async with serving(laned(app, way=way, policy=Enqueue(wait_timeout=0.01))) as driver:
            await held(app, post(driver, SECRET, "holder"))
            checked(await post(driver, SECRET, "it").response(), errors.WaitTimeout)

    async def test_draining(self, way: str) -> None:
        """Who waits and who comes; who runs is let end, and other keys are refused too."""
        app = StagedApp()
        middleware = laned(app, way=way)
        async with serving(middleware) as driver:
            holder = await held(app, post(driver, SECRET, "holder"))
            waiting = post(driver, SECRET, "waiting")
            await waiting.until_idle()
            assert await middleware.runtime.drain(timeout=0) == 1
            checked(await waiting.response(), errors.LanesDraining)
            checked(await post(driver, SECRET, "late").response(), errors.LanesDraining)
            checked(await post(driver, "another", "other").response(), errors.LanesDraining)
            app.release("holder")
            assert (await holder.response()).status == 200

    async def test_capacity_of_running_turns(self) -> None:
        """`Reject` where the lane is idle and the process is not."""
        app = StagedApp()
        async with serving(laned(app, lanes=Lanes(max_running=1), policy="reject")) as driver:
            await held(app, post(driver, "another", "holder"))
            checked(await post(driver, SECRET, "it").response(), errors.CapacityExceeded)

    async def test_superseded_while_it_waited(self, way: str) -> None:
        """`Interrupt` takes the place of those in line; each is told who came."""
        app = StagedApp()
        async with serving(laned(app, way=way, policy=Interrupt(grace=60))) as driver:
            await held(app, post(driver, SECRET, "holder"))
            waiting = post(driver, SECRET, "waiting")
            await waiting.until_idle()
            newest = post(driver, SECRET, "newest")
            document = checked(await waiting.response(), errors.TurnInterrupted)
            app.release("holder", "newest")
            assert (await newest.response()).headers["x-turnlane-turn"] == document["into"]

    async def test_interrupted_while_it_ran(self, way: str) -> None:
        """Cancelled after the grace, before its response began."""
        app = StagedApp()
        async with serving(laned(app, way=way, policy=Interrupt(grace=0))) as driver:
            holder = await held(app, post(driver, SECRET, "holder"))
            newest = post(driver, SECRET, "newest")
            document = checked(await holder.response(), errors.TurnInterrupted)
            app.release("newest")
            assert (await newest.response()).headers["x-turnlane-turn"] == document["into"]

    async def test_interrupted_by_an_operator(self, way: str) -> None:
        """Nobody took its place: `into` is null."""
        app = StagedApp()
        middleware = laned(app, way=way)
        async with serving(middleware) as driver:
            holder = await held(app, post(driver, SECRET, "holder"))
            assert middleware.runtime.lanes.interrupt(SECRET, grace=0)
            assert checked(await holder.response(), errors.TurnInterrupted)["into"] is None

    async def test_turn_timeout(self, way: str) -> None:
        """Longer than `turn_timeout` in the app."""
        app = StagedApp()
        async with serving(laned(app, way=way, turn_timeout=0.01)) as driver:
            checked(await post(driver, SECRET, "it").response(), errors.TurnTimeout)
            assert app.log == ["+it", "-it"]

    async def test_turn_timeout_of_the_lanes(self) -> None:
        """What the lanes say counts where the middleware says nothing."""
        app = StagedApp()
        async with serving(laned(app, lanes=Lanes(turn_timeout=0.01))) as driver:
            checked(await post(driver, SECRET, "it").response(), errors.TurnTimeout)

    async def test_lane_reentry(self, way: str) -> None:
        """A request made from inside the turn it would have to wait for."""
        app = StagedApp()
        middleware = laned(app, way=way)
        inner = Wire()

        async def call_itself(_: Scope, receive: Receive, send: Send) -> None:
            await middleware(scope_of(SECRET, "inner"), inner.receive, inner.send)
            await send(inner.sent[0])
            await send(inner.sent[1])

        app.steps["it"] = call_itself
        async with serving(middleware) as driver:
            checked(await post(driver, SECRET, "it").response(), errors.LaneReentry)
        assert app.log == ["+it", "-it"]

    async def test_session_key_required(self, way: str) -> None:
        """No key, and the server wants one."""
        async with serving(laned(StagedApp(), way=way, required=True)) as driver:
            document = checked(await post(driver, None, "it").response(), errors.SessionKeyRequired)
        assert document["error"]["param"] == f"header {KEY}"

    async def test_session_key_invalid(self, way: str) -> None:
        """A key that is none."""
        async with serving(laned(StagedApp(), way=way)) as driver:
            document = checked(await post(driver, f"{SECRET}\x07", "it").response(), errors.SessionKeyInvalid)
        assert document["error"]["param"] == f"header {KEY}"

    async def test_body_too_large(self, way: str) -> None:
        """The key would have to come from it."""
        middleware = laned(StagedApp(), way=way, key=keys.json_body("key"), body_limit=9)
        async with serving(middleware) as driver:
            checked(await post(driver, None, "it", body=b"0123456789").response(), errors.BodyTooLarge)


class TestRetryAfter:
    """An estimate in whole seconds, never outside of what clients in use take."""

    @pytest.mark.parametrize(
        ("seconds", "expected"),
        [(0, 1), (0.2, 1), (1, 1), (1.1, 2), (59.1, 60), (60, 60), (61, 60), (1e12, 60), (math.inf, 5), (math.nan, 5)],
    )
    def test_is_whole_and_bounded(self, seconds: float, expected: int) -> None:
        """Rounded up, at least 1, at most 60; 5 where nothing is known."""
        assert retry_after(errors.LanesDraining("k"), lambda _: seconds) == expected

    @pytest.mark.parametrize(
        ("error", "ahead"),
        [
            (errors.LaneBusy("k", ahead=4), 4),
            (errors.LaneFull("k", waiting=20, max_waiting=20), 20),
            (errors.LaneFull("k", waiting=0, max_waiting=0), 1),
            (errors.WaitTimeout("k", wait_timeout=1, holder=None), 1),
            (errors.CapacityExceeded(None, resource="body_budget", limit=1), 1),
        ],
    )
    def test_counts_who_is_ahead(self, error: errors.TurnlaneError, ahead: int) -> None:
        """As far as the error knows."""
        asked: list[int] = []

        def expected_wait(count: int) -> float:
            asked.append(count)
            return 1.0

        retry_after(error, expected_wait)
        assert asked == [ahead]

    @pytest.mark.parametrize(("lasted", "expected"), [(0.1, 1), (3.5, 4), (1000.0, 60)])
    async def test_follows_how_long_turns_took(self, lasted: float, expected: int) -> None:
        """One is to leave the line before there is room again: as long as the last turn took that others waited for."""
        clock = ManualClock()
        app = StagedApp()
        middleware = laned(app, lanes=Lanes(clock=clock), policy=Enqueue(max_waiting=1))
        async with serving(middleware) as driver:
            await held(app, post(driver, "k", "measured"))
            waiting = post(driver, "k", "holder")
            await waiting.until_idle()
            clock.advance(lasted)
            app.release("measured")
            await app.entered("holder")
            next_one = post(driver, "k", "next")
            await next_one.until_idle()
            full = await post(driver, "k", "full").response()
            app.release("holder", "next")
            await next_one.response()
        assert int(full.headers["retry-after"]) == expected


def test_a_response_is_two_messages() -> None:
    """A start with bytes for headers, and one body that ends it."""
    start, body = response_of(EXAMPLES[errors.LaneFull], expected_wait=lambda _: 3.2)
    assert start["type"] == "http.response.start"
    assert all(isinstance(part, bytes) for pair in start["headers"] for part in pair)
    assert dict(start["headers"])[b"retry-after"] == b"4"
    assert body["more_body"] is False
    assert json.loads(body["body"])["error"]["code"] == "lane_full"


@pytest.mark.parametrize("make", [lambda: laned(StagedApp(), headers=False, required=True)])
async def test_a_refusal_needs_none_of_our_headers(make: Callable[[], Any]) -> None:
    """`headers=False` is about responses of the app; a refusal says what clients need all the same."""
    async with serving(make()) as driver:
        checked(await post(driver, None, "it").response(), errors.SessionKeyRequired)


async def held(app: StagedApp, request: HttpRequest) -> HttpRequest:
    """Wait until a request of the app is in its turn."""
    name = dict(request.scope["headers"])[b"x-name"].decode()
    await app.entered(name)
    return request
