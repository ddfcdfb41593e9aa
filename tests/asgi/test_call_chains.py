"""The call chain in a request: what it refuses, what it never gives, and what it gives where it is trusted."""

# pyright: reportPrivateUsage=false

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_groups import plus
from support.asgi_staged import StagedApp, answer_with, in_line, laned, post, serving, until
from turnlane import Coalesce, Enqueue, LaneMiddleware, Lanes, Turn, current_turn, errors
from turnlane.testing import AsgiDriver, Response
from turnlane.turns.chain import CHAIN_HEADER, MAX_TURNS

WAITED = (503, "wait_timeout")
SHORT = Enqueue(wait_timeout=0.05)
FOREIGN = "turn-0123456789ab-1700000000000000.0123456789abcdef0123"


async def held_by(app: StagedApp, driver: AsgiDriver, key: str) -> Turn:
    """Let a request of a key enter the app, named as the key, and return its turn."""
    post(driver, key, key)
    await app.entered(key)
    turn = app.turns[key]
    assert turn is not None
    return turn


def outcome(response: Response) -> tuple[int, str | None]:
    return response.status, None if response.status == 200 else response.json()["error"]["code"]


class TestRefused:
    """What would wait for itself is refused at once; on virtual or real time nobody waits."""

    async def test_the_lane_of_its_caller(self, way: str) -> None:
        """Whatever way the caller went through the middleware."""
        app = StagedApp()
        async with serving(laned(app, way=way)) as driver:
            caller = await held_by(app, driver, "a")
            refused = await post(driver, "a", "it", headers=caller.headers()).response()
            app.release("a")
        assert outcome(refused) == (409, "lane_reentry")
        assert refused.headers["x-should-retry"] == "false"
        assert "+it" not in app.log

    async def test_the_lane_of_a_caller_further_out(self, way: str) -> None:
        """A called b, which calls for a; b had its lane at once, by whatever way."""
        app = StagedApp()
        async with serving(laned(app, way=way)) as driver:
            outer = await held_by(app, driver, "a")
            post(driver, "b", "b", headers=outer.headers())
            await app.entered("b")
            inner = app.turns["b"]
            assert inner is not None
            assert len(inner.headers()[CHAIN_HEADER].split(", ")) == 2
            refused = await post(driver, "a", "it", headers=inner.headers()).response()
            app.release("a", "b")
        assert outcome(refused) == (409, "lane_reentry")

    async def test_a_cycle_of_two_chains(self, way: str) -> None:
        """A's callee waits for b; what b's turn calls for a would close the cycle, until that wait is given up."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=SHORT)
        async with serving(middleware) as driver:
            one, other = await held_by(app, driver, "a"), await held_by(app, driver, "b")
            waiting = post(driver, "b", "waits", headers=one.headers())
            await in_line(middleware, 1)
            refused = await post(driver, "a", "it", headers=other.headers()).response()
            assert outcome(refused) == (409, "lane_reentry")
            waiting.disconnect()
            await waiting.finished()
            assert one._nested is None
            waited = await post(driver, "a", "it", headers=other.headers()).response()
            app.release("a", "b")
        assert outcome(waited) == (503, "wait_timeout")

    async def test_a_turn_inside_the_callee(self) -> None:
        """The callee asks for its caller's lane without HTTP; it went the short way: its headers are read only now."""
        app, lanes = StagedApp(), Lanes()
        caught: list[BaseException] = []

        async def ask(_: Scope, __: Receive, send: Send) -> None:
            try:
                await lanes.turn("a").__aenter__()
            except errors.LaneReentry as error:
                caught.append(error)
            await answer_with(send)

        app.steps["it"] = ask
        async with serving(laned(app, lanes=lanes)) as driver:
            caller = await held_by(app, driver, "a")
            await post(driver, "b", "it", headers=caller.headers()).response()
            app.release("a")
        assert [type(error) for error in caught] == [errors.LaneReentry]

    @pytest.mark.parametrize("policy", ["enqueue", "reject", "interrupt"])
    async def test_under_every_policy(self, policy: str) -> None:
        """Nobody is interrupted by what it called itself."""
        app = StagedApp()
        async with serving(laned(app, policy=policy)) as driver:
            caller = await held_by(app, driver, "a")
            refused = await post(driver, "a", "it", headers=caller.headers()).response()
            assert not caller.interrupted
            app.release("a")
        assert outcome(refused) == (409, "lane_reentry")


class TestGroups:
    """A request from inside a turn stands alone, as a call from inside one does."""

    async def test_its_caller_gets_an_answer_of_its_own(self, way: str) -> None:
        """And not the turn of a newer message, which nobody could tell from outside that the caller waits for."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=Coalesce(window=0, merge=plus, share_result=True))
        async with serving(middleware) as driver:
            caller = await held_by(app, driver, "a")
            other = await held_by(app, driver, "b")
            callee = post(driver, "b", "callee", headers=caller.headers(), body=b"1")
            await in_line(middleware, 1)
            newer = post(driver, "b", "newer", body=b"2")
            await in_line(middleware, 2)
            app.release("b", "callee", "newer", "a")
            assert (await callee.response()).text == "callee"
            assert (await newer.response()).text == "newer"
            assert not other.running
        assert (app.bodies["callee"], app.bodies["newer"]) == (b"1", b"2")


class TestNotRefused:
    """The same requests where nothing waits for itself: they stand in line as any other."""

    @pytest.mark.parametrize("forged", ["nothing", "the id alone", "another seal", "a seal of other lanes", "cut"])
    async def test_without_the_seal(self, forged: str) -> None:
        """Who writes an id he has seen names nobody; it is the control of all tests above, too."""
        app, others = StagedApp(), Lanes()
        async with serving(laned(app, policy=SHORT)) as driver, others.turn("a") as stranger:
            caller = await held_by(app, driver, "a")
            true = caller.headers()[CHAIN_HEADER]
            seal = stranger.headers()[CHAIN_HEADER].split(".")[1]
            text = {
                "nothing": "",
                "the id alone": caller.id,
                "another seal": f"{caller.id}.{'0' * 20}",
                "a seal of other lanes": f"{caller.id}.{seal}",
                "cut": true[:-1],
            }[forged]
            waited = await post(driver, "a", "it", headers={CHAIN_HEADER: text}).response()
            app.release("a")
        assert outcome(waited) == (503, "wait_timeout")

    async def test_when_the_caller_has_ended(self) -> None:
        """Its id names nobody any more, and the next turn of its key has nothing to do with it."""
        app = StagedApp()
        middleware = laned(app)
        async with serving(middleware) as driver:
            caller = await held_by(app, driver, "a")
            kept = caller.headers()
            app.release("a")
            post(driver, "a", "next")
            await app.entered("next")
            waiting = post(driver, "a", "it", headers=kept)
            await in_line(middleware, 1)
            assert caller.headers() == {}
            app.release("next", "it")
            assert (await waiting.response()).status == 200

    async def test_when_the_caller_ends_while_it_waits(self) -> None:
        """The caller's own client left, say: what it called goes on in line, as a stranger."""
        app = StagedApp()
        middleware = laned(app)
        async with serving(middleware) as driver:
            caller = await held_by(app, driver, "a")
            await held_by(app, driver, "b")
            waiting = post(driver, "b", "it", headers=caller.headers())
            await in_line(middleware, 1)
            app.release("a")
            await until(lambda: not caller.running)
            app.release("b", "it")
            assert (await waiting.response()).status == 200

    async def test_from_a_detached_block(self) -> None:
        """There is no turn there, so there is nothing to pass on."""
        app = StagedApp()
        seen: list[Turn | None] = []
        passed: list[dict[str, str]] = []

        async def leave_chain(_: Scope, __: Receive, send: Send) -> None:
            turn = current_turn()
            assert turn is not None
            with turn.detached():
                seen.append(current_turn())
                seen.append(await asyncio.create_task(asyncio.to_thread(current_turn)))
            passed.append(await asyncio.to_thread(turn.headers))
            await answer_with(send)

        app.steps["it"] = leave_chain
        async with serving(laned(app)) as driver:
            await post(driver, "a", "it").response()
        assert seen == [None, None]
        assert [list(headers) for headers in passed] == [[CHAIN_HEADER]]


class TestPassedOn:
    """What other servers said is passed on as it came; what can not be a chain is passed over."""

    async def test_ids_of_other_processes(self, way: str) -> None:
        """Before its own, whatever way the turn went, waiting or not."""
        app = StagedApp()
        middleware = laned(app, way=way)
        async with serving(middleware) as driver:
            post(driver, "a", "first", headers={CHAIN_HEADER: FOREIGN})
            await app.entered("first")
            waiting = post(driver, "a", "second", headers={CHAIN_HEADER: FOREIGN})
            await in_line(middleware, 1)
            passed = {"first": _items(app, "first")}
            app.release("first")
            await app.entered("second")
            passed["second"] = _items(app, "second")
            app.release("second")
            await waiting.response()
        for name, items in passed.items():
            turn = app.turns[name]
            assert turn is not None
            assert items[0] == FOREIGN
            assert [item.partition(".")[0] for item in items[1:]] == [turn.id]

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "",
                ",",
                "x",
                f"{FOREIGN} {FOREIGN}",
                f"{FOREIGN},é.0",
                "a" * 99 + ".0",
                "a.b.c",
                "a." + "f" * 99,
                "\x00.0",
            ),
            ", ".join(f"a-{number}.00" for number in range(MAX_TURNS + 1)),
            ",".join([FOREIGN] * 500),
        ],
    )
    async def test_what_can_not_be_a_chain_is_passed_over(self, text: str) -> None:
        """As a whole: nobody is refused for it, and nothing of it is passed on."""
        app = StagedApp(held=False)
        passed: list[dict[str, str]] = []

        async def look(scope: Scope, _: Receive, send: Send) -> None:
            passed.append(scope["state"]["turn"].headers())
            await answer_with(send)

        app.steps["it"] = look
        async with serving(laned(app)) as driver:
            headers = {CHAIN_HEADER: text} if text.isascii() else {CHAIN_HEADER: text.encode().decode("latin-1")}
            assert (await post(driver, "a", "it", headers=headers).response()).status == 200
        assert len(passed[0][CHAIN_HEADER].split(",")) == 1

    async def test_a_chain_that_is_too_long_is_an_error_where_it_would_be_passed_on(self) -> None:
        """Agents that call each other without an end come to one; the error is a 409 that is not tried again."""
        app = StagedApp()
        longest = ", ".join(f"turn-{number}-1.00" for number in range(MAX_TURNS))

        async def pass_on(scope: Scope, _: Receive, __: Send) -> None:
            scope["state"]["turn"].headers()

        app.steps["it"] = pass_on
        async with serving(laned(app)) as driver:
            response = await post(driver, "a", "it", headers={CHAIN_HEADER: longest}).response()
        assert outcome(response) == (409, "call_chain_too_long")
        assert response.headers["x-should-retry"] == "false"


def trusting(_: Any) -> bool:
    return True


async def distrusting(_: Any) -> bool:
    await asyncio.sleep(0)
    return False


class TestTrusted:
    """`trust_chain=`: the running slot of a caller, and being served while the lanes drain."""

    @pytest.mark.parametrize(
        ("trust", "expected"),
        [
            (True, (200, None)),
            (trusting, (200, None)),
            (False, (503, "wait_timeout")),
            (distrusting, (503, "wait_timeout")),
        ],
    )
    async def test_the_slot_of_the_caller(self, trust: Any, expected: tuple[int, str | None]) -> None:
        """One slot for all: the caller waits for its callee, which waits for the slot, unless the chain is trusted."""
        app, lanes = StagedApp(), Lanes(max_running=1, policy=SHORT)
        async with serving(laned(app, lanes=lanes, trust_chain=trust)) as driver:
            caller = await held_by(app, driver, "a")
            app.release("it")
            assert outcome(await post(driver, "b", "it", headers=caller.headers()).response()) == expected
            capacity = lanes.gate.table.capacity
            assert capacity is not None
            assert capacity.used == 1
            app.release("a")

    async def test_the_slot_is_lent_to_who_stands_ahead(self) -> None:
        """A stranger holds the place before the callee and lacks only the slot that is idle meanwhile."""
        app, lanes = StagedApp(), Lanes(max_running=1)
        middleware = laned(app, lanes=lanes, trust_chain=True)
        async with serving(middleware) as driver:
            caller = await held_by(app, driver, "a")
            stranger = post(driver, "b", "stranger")
            await in_line(middleware, 1)
            callee = post(driver, "b", "callee", headers=caller.headers())
            app.release("stranger", "callee")
            assert ((await stranger.response()).status, (await callee.response()).status) == (200, 200)
            app.release("a")

    async def test_a_stranger_gets_none(self) -> None:
        """Trust is in the seal: an id alone is worth nothing, also where chains are trusted."""
        app, lanes = StagedApp(), Lanes(max_running=1, policy=SHORT)
        asked: list[object] = []
        async with serving(laned(app, lanes=lanes, trust_chain=asked.append)) as driver:
            caller = await held_by(app, driver, "a")
            forged = {CHAIN_HEADER: f"{caller.id}.{'0' * 20}"}
            assert outcome(await post(driver, "b", "it", headers=forged).response()) == (503, "wait_timeout")
            app.release("a")
        assert asked == []

    @pytest.mark.parametrize("trust", [True, False])
    async def test_draining(self, trust: bool) -> None:
        """The caller could not end without its callee."""
        app, lanes = StagedApp(), Lanes()
        async with serving(laned(app, lanes=lanes, trust_chain=trust)) as driver:
            caller = await held_by(app, driver, "a")
            await lanes.drain(0)
            app.release("it")
            response = await post(driver, "b", "it", headers=caller.headers()).response()
            app.release("a")
        assert outcome(response) == ((200, None) if trust else (503, "draining"))

    async def test_never_the_lane_a_second_time(self) -> None:
        """However trusted: the lane its caller holds stays refused."""
        app = StagedApp()
        async with serving(laned(app, lanes=Lanes(max_running=1), trust_chain=True)) as driver:
            caller = await held_by(app, driver, "a")
            refused = await post(driver, "a", "it", headers=caller.headers()).response()
            app.release("a")
        assert outcome(refused) == (409, "lane_reentry")

    @pytest.mark.parametrize("wrong", [None, "yes", 1, ()])
    def test_a_wrong_setting_is_named(self, wrong: Any) -> None:
        """When the app is put together."""
        with pytest.raises(ValueError, match="trust_chain"):
            LaneMiddleware(StagedApp(), key="x-key", trusted_keys=True, trust_chain=wrong)


def _items(app: StagedApp, name: str) -> list[str]:
    turn = app.turns[name]
    assert turn is not None
    return turn.headers()[CHAIN_HEADER].split(", ")
