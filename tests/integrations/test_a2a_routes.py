"""The routes a2a-sdk ships, with lanes before them, with lanes around the executor, with both, and with none."""

import asyncio
from pathlib import Path

import pytest

from support.a2a_server import METHODS, Asking, answer_in, serving, task_in
from support.rigs import ScriptedModel
from support.rigs.a2a import Files, Remembering
from support.rigs.contract import reply_to
from support.rigs.judging import damage
from turnlane import Runtime
from turnlane.hooks import TurnFinished, TurnQueued, TurnStarted
from turnlane.testing import HttpRequest
from turnlane_integrations.a2a import LaneAgentExecutor

ALL = pytest.mark.parametrize("method", METHODS)


@ALL
async def test_without_lanes_overlapping_messages_do_damage(method: str, tmp_path: Path) -> None:
    """Two messages of one context: a turn is lost."""
    files = Files(str(tmp_path))
    async with serving(Remembering(ScriptedModel(together=2), files)) as server:
        answers = await _answers_to(server.send("one", method=method), server.send("two", method=method))
    assert damage(["one", "two"], answers, files.read("c")) != []


@ALL
async def test_the_middleware_before_the_shipped_routes_is_enough_for_who_waits_for_the_answer(
    method: str, tmp_path: Path, seed: int
) -> None:
    """The same messages, unchanged routes and executor, one line more: nothing is lost, each caller has its answer."""
    files = Files(str(tmp_path))
    async with (
        Runtime() as runtime,
        serving(Remembering(ScriptedModel(seed=seed), files), gate=runtime) as server,
    ):
        sent = [server.send(text, method=method) for text in ("one", "two", "three")]
        answers = await _answers_to(*sent)
        assert damage(["one", "two", "three"], answers, files.read("c")) == []


@pytest.mark.parametrize("how", ["send", "stream"])
@pytest.mark.parametrize(
    ("gate", "around"), [(True, False), (False, True), (True, True)], ids=["middleware", "executor", "both"]
)
async def test_messages_over_rest_take_turns_too(how: str, gate: bool, around: bool, tmp_path: Path, seed: int) -> None:
    """The lane is that of the same context over JSON-RPC."""
    files = Files(str(tmp_path))
    async with Runtime() as runtime:
        executor = Remembering(ScriptedModel(seed=seed), files)
        served = LaneAgentExecutor(executor, runtime) if around else executor
        async with serving(served, gate=runtime if gate else None) as server:
            sent = [server.send_by_rest("one", how=how), server.send("two"), server.send_by_rest("three", how=how)]
            answers = await _answers_to(*sent)
    assert damage(["one", "two", "three"], answers, files.read("c")) == []


async def test_over_rest_an_agent_that_outlives_its_request_has_the_lane_of_its_executor(tmp_path: Path) -> None:
    """As over JSON-RPC."""
    files, model = Files(str(tmp_path)), ScriptedModel()
    async with Runtime() as runtime:
        queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
        runtime.hooks.on(TurnQueued, queued.put_nowait)
        served = LaneAgentExecutor(Remembering(model, files), runtime)
        async with serving(served, gate=runtime) as server:
            await server.send_by_rest("hold this", at_once=True).response()
            await model.entered["hold this"].wait()
            second = server.send_by_rest("two")
            await queued.get()
            model.go["hold this"].set()
            assert answer_in((await second.response()).text) == reply_to("two", 1)


async def _answers_to(*requests: HttpRequest) -> dict[str, str]:
    names = ("one", "two", "three")
    responses = await asyncio.gather(*(request.response() for request in requests))
    return {name: answer_in(response.text) for name, response in zip(names, responses, strict=False)}


# What outlives its request: the gate that is left with it, and those that are not.
LEAVING = pytest.mark.parametrize("how", ["answered at once", "client left"])


@LEAVING
@pytest.mark.parametrize(
    ("gate", "around", "overlap"),
    [(True, False, True), (False, True, False), (True, True, False)],
    ids=["middleware alone", "executor alone", "both"],
)
async def test_an_agent_that_outlives_its_request(
    how: str, gate: bool, around: bool, overlap: bool, tmp_path: Path
) -> None:
    """a2a-sdk runs agents in tasks of its own. Lanes before the routes end with the request, those around the executor
    with the agent: with the former alone the next message meets an agent that still runs.
    """
    files, model = Files(str(tmp_path)), ScriptedModel()
    async with Runtime() as runtime:
        queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
        runtime.hooks.on(TurnQueued, queued.put_nowait)
        executor = Remembering(model, files)
        served = LaneAgentExecutor(executor, runtime) if around else executor
        async with serving(served, gate=runtime if gate else None) as server:
            if how == "answered at once":
                await server.send("hold this", at_once=True).response()
                await model.entered["hold this"].wait()
            else:
                first = server.send("hold this", method="SendStreamingMessage")
                await model.entered["hold this"].wait()
                first.disconnect()
                await first.finished()
            second = server.send("two")
            if overlap:
                await model.entered["two"].wait()
                model.go["hold this"].set()
            else:
                await queued.get()
                assert not model.entered["two"].is_set()
                model.go["hold this"].set()
            answer = answer_in((await second.response()).text)
            if not overlap:
                assert answer == reply_to("two", 1)
                answers = {"hold this": reply_to("hold this", 0), "two": answer}
                assert damage(["hold this", "two"], answers, files.read("c")) == []
            else:
                assert answer == reply_to("two", 0)
                assert damage(["hold this", "two"], {"two": answer}, files.read("c")) != []


async def test_with_both_there_is_one_turn_for_a_message(tmp_path: Path) -> None:
    """An execution joins the turn of its request; so do all messages of one task."""
    async with Runtime() as runtime:
        started: list[TurnStarted] = []
        finished: list[TurnFinished] = []
        runtime.hooks.on(TurnStarted, started.append)
        runtime.hooks.on(TurnFinished, finished.append)
        executor = LaneAgentExecutor(Asking(), runtime)
        async with serving(executor, gate=runtime) as server:
            task_id = task_in((await server.send("book a flight").response()).text)["id"]
            async with asyncio.timeout(10):
                text = (await server.send("to Rome", task_id=task_id).response()).text
        assert answer_in(text) == "book a flight to Rome"
        assert len(started) == len(finished) == 2
