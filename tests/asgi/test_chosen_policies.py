"""`policy=` as a callable: each request has a policy of its own, and a client may choose where the owner lets it."""

import asyncio
import pickle
from typing import Any

import pytest

from support.asgi_staged import KEY, StagedApp, in_line, laned, post, serving
from turnlane import Enqueue, Interrupt, LaneMiddleware, Lanes, Reject, Runtime, errors, keys, policies
from turnlane.testing import Response

POLICY = "x-turnlane-policy"
ALL = ("enqueue", "reject", "interrupt")


def of_ann(_: Any) -> str:
    return "ann"


WRONG: list[tuple[Any, Any]] = [
    *(("", ALL), ("x y", ALL), (None, ALL), (b"x", ALL)),
    *(("x", ()), ("x", {}), ("x", "enqueue"), ("x", b"enqueue"), ("x", None), ("x", 5), ("x", [None])),
    *(("x", ["nonsense"]), ("x", [[]]), ("x", {"a b": "enqueue"}), ("x", {1: "enqueue"}), ("x", {"a": Lanes})),
]
SCOPED = keys.scoped_by(of_ann, KEY)


def code_of(response: Response) -> tuple[int, str]:
    return response.status, response.json()["error"]["code"]


class TestCallables:
    """Any callable of the connection."""

    @pytest.mark.parametrize("kind", ["sync", "async"])
    @pytest.mark.parametrize(
        ("chosen", "status"), [(Reject(), 409), ("reject", 409), (None, 503), (Enqueue(wait_timeout=0.02), 503)]
    )
    async def test_its_answer_counts(self, kind: str, chosen: Any, status: int) -> None:
        """A policy, its name, or None for what the lanes say."""

        def choose(connection: Any) -> Any:
            return chosen if connection.headers["x-name"] == "it" else None

        async def choose_later(connection: Any) -> Any:
            await asyncio.sleep(0)
            return choose(connection)

        app = StagedApp()
        lanes = Lanes(policy=Enqueue(wait_timeout=0.01))
        async with serving(laned(app, lanes=lanes, policy=choose if kind == "sync" else choose_later)) as driver:
            post(driver, "a", "holder")
            await app.entered("holder")
            assert (await post(driver, "a", "it").response()).status == status
            app.release("holder")

    async def test_it_may_look_at_the_body(self) -> None:
        """Which the app then gets as it was."""

        async def choose(connection: Any) -> str:
            return str((await connection.json())["policy"])

        app = StagedApp(held=False)
        body = b'{"policy": "reject"}'
        async with serving(laned(app, policy=choose)) as driver:
            assert (await post(driver, "a", "it", body=body).response()).status == 200
        assert app.bodies["it"] == body

    async def test_it_may_refuse(self) -> None:
        """With an error that has a response."""

        def choose(_: Any) -> None:
            raise errors.PolicyNotAllowed("header x-mood", reason="not today")

        app = StagedApp(held=False)
        async with serving(laned(app, policy=choose)) as driver:
            assert code_of(await post(driver, "a", "it").response()) == (422, "policy_not_allowed")
        assert app.log == []

    async def test_an_answer_that_is_no_policy_is_the_owners_error(self) -> None:
        """Not the client's."""

        def choose(_: Any) -> Any:
            return 5

        async with serving(laned(StagedApp(), policy=choose)) as driver:
            with pytest.raises(ValueError, match="not a policy: 5"):
                await post(driver, "a", "it").finished()

    async def test_it_is_not_asked_for_a_request_without_a_lane(self) -> None:
        """There is nothing to choose."""
        asked: list[Any] = []
        app = StagedApp(held=False)
        async with serving(laned(app, policy=asked.append)) as driver:
            assert (await post(driver, None, "it").response()).status == 200
        assert asked == []


class TestHeader:
    """`policies.from_header`: the client's choice among what the owner allows."""

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("reject", (409, "lane_busy")),
            (" Reject ", (409, "lane_busy")),
            (None, (503, "wait_timeout")),
            ("", (503, "wait_timeout")),
            ("interrupt", (422, "policy_not_allowed")),
            ("rollback", (422, "policy_not_allowed")),
            ("nonsense", (422, "policy_not_allowed")),
            ("enqueue, reject", (422, "policy_not_allowed")),
            ("\u00ff", (422, "policy_not_allowed")),
        ],
    )
    async def test_what_is_allowed_counts_and_all_else_is_refused(
        self, value: str | None, expected: tuple[int, str]
    ) -> None:
        """Nobody is served under a policy he did not ask for; without the header the default counts."""
        app = StagedApp()
        lanes = Lanes(policy=Enqueue(wait_timeout=0.01))
        choice = policies.from_header(POLICY, allow=("enqueue", "reject"))
        async with serving(laned(app, lanes=lanes, policy=choice)) as driver:
            post(driver, "a", "holder")
            await app.entered("holder")
            headers = {} if value is None else {POLICY: value}
            response = await post(driver, "a", "it", headers=headers).response()
            app.release("holder")
        assert code_of(response) == expected
        if expected[0] == 422:
            document = response.json()
            assert document["error"]["param"] == f"header {POLICY}"
            assert "enqueue, reject" in document["detail"]
            assert response.headers["x-should-retry"] == "false"

    async def test_a_client_interrupts_its_own_turn(self) -> None:
        """The key is of its principal, so it is its own; each of three requests has its own policy on one lane."""
        app = StagedApp()
        allow = {"stop": Interrupt(grace=0), "enqueue": Enqueue(), "reject": Reject()}
        middleware = laned(app, key=SCOPED, policy=policies.from_header(POLICY, allow=allow))
        async with serving(middleware) as driver:
            holder = post(driver, "a", "holder")
            await app.entered("holder")
            waiting = post(driver, "a", "waiting", headers={POLICY: "enqueue"})
            await in_line(middleware, 1)
            rejected = await post(driver, "a", "rejected", headers={POLICY: "reject"}).response()
            app.release("stopper")
            stopper = await post(driver, "a", "stopper", headers={POLICY: "stop"}).response()
            answers = [code_of(each) for each in (rejected, await holder.response(), await waiting.response())]
        assert stopper.status == 200
        assert answers == [(409, "lane_busy"), (409, "turn_interrupted"), (409, "turn_interrupted")]

    @pytest.mark.parametrize(
        "settings", [{"key": KEY}, {"key": KEY, "trusted_keys": True}, {"key": keys.first_of(SCOPED, "x-other")}]
    )
    def test_ending_turns_of_others_needs_scoped_keys(self, settings: dict[str, Any]) -> None:
        """Said when the app is put together; who may name any session may not end any turn."""
        with pytest.raises(ValueError, match="scoped_by"):
            LaneMiddleware(StagedApp(), policy=policies.from_header(POLICY, allow=ALL), **settings)

    def test_and_no_session_ids(self) -> None:
        """An id is another way to name a session of somebody else."""
        runtime = Runtime(sessions="memory://")
        with pytest.raises(ValueError, match="session_id"):
            LaneMiddleware(
                StagedApp(),
                key=SCOPED,
                runtime=runtime,
                session_id="x-session-id",
                policy=policies.from_header(POLICY, allow=ALL),
            )

    def test_the_policies_that_end_turns_are_those_with_a_grace(self) -> None:
        """By what they are, not by the name a client knows them by."""
        choice = policies.from_header(POLICY, allow={"now": Interrupt(), "later": "enqueue"})
        assert choice.ends_others == ("now",)
        assert choice.allowed == {"now": Interrupt(), "later": Enqueue()}

    @pytest.mark.parametrize(("name", "allow"), WRONG)
    def test_a_wrong_argument_is_named(self, name: Any, allow: Any) -> None:
        """When the header is made."""
        with pytest.raises(ValueError, match=r"header|allow|policy"):
            policies.from_header(name, allow=allow)

    def test_the_error_keeps_its_facts(self) -> None:
        """Also pickled."""
        error = pickle.loads(pickle.dumps(errors.PolicyNotAllowed("header x", reason="it is not allowed")))
        assert (error.param, error.reason) == ("header x", "it is not allowed")
        assert isinstance(error, errors.RequestRefused)
        chain = pickle.loads(pickle.dumps(errors.CallChainTooLong("a", turns=33, limit=32)))
        assert (chain.key, chain.turns, chain.limit) == ("a", 33, 32)
