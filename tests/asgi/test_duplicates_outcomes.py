"""What becomes of a message whose first request did not end with an answer: new again, or never run again."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_duplicates import FailingDuplicates, code_of, keyed, once, runs_of, send
from support.asgi_staged import StagedApp, answer_with, chunk, laned, passes, post, serving, start, watched
from support.asgi_wire import Wire, scope_of
from turnlane import Enqueue, Interrupt, Reject, Runtime, errors
from turnlane.duplicates import Duplicates, MemoryDuplicateStore, MessageRecord

UNKNOWN = (409, "duplicate_outcome_unknown", "false")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")


def facts(response: Any) -> tuple[int, str, str | None]:
    return response.status, code_of(response), response.headers.get("x-should-retry")


class TestNotRun:
    """The app was not called: the key is free."""

    @pytest.mark.parametrize(
        ("settings", "code"),
        [
            ({"policy": Reject()}, "lane_busy"),
            ({"policy": Enqueue(max_waiting=0)}, "lane_full"),
            ({"policy": Enqueue(wait_timeout=0.01)}, "wait_timeout"),
        ],
    )
    async def test_a_message_that_was_refused_is_new(self, settings: dict[str, Any], code: str) -> None:
        """Busy, full, waited too long: it asked to come again, and may."""
        app = StagedApp()
        async with serving(once(app, **settings)) as driver:
            holder = post(driver, "alice", "holder")
            await app.entered("holder")
            assert code_of(await send(driver, "first")) == code
            app.release("holder", "second")
            await holder.finished()
            assert (await send(driver, "second")).body == b"second"

    async def test_a_message_that_was_drained_is_new(self) -> None:
        """It waited when the server went away."""
        app, duplicates = StagedApp(), Duplicates()
        old, new = (laned(app, idempotency=duplicates) for _ in range(2))
        async with serving(old) as driver, serving(new) as other:
            post(driver, "alice", "holder")
            await app.entered("holder")
            first = keyed(driver, "first")
            await first.until_idle()
            await old.runtime.drain(timeout=0)
            assert code_of(await first.response()) == "draining"
            app.release("holder", "second")
            assert (await send(other, "second")).body == b"second"

    @pytest.mark.parametrize("how", ["leaves", "is cancelled"])
    async def test_a_message_whose_client_left_the_line_is_new(self, how: str) -> None:
        """Its turn never ran."""
        app = StagedApp()
        async with serving(once(app)) as driver:
            post(driver, "alice", "holder")
            await app.entered("holder")
            first = keyed(driver, "first")
            await first.until_idle()
            if how == "leaves":
                first.disconnect()
                await first.finished()
            else:
                await first.cancel()
            second = keyed(driver, "second")
            app.release("holder", "second")
            assert (await second.response()).body == b"second"

    async def test_a_session_that_can_not_be_found_leaves_the_message_new(self) -> None:
        """The session is looked up in the turn, before the app."""
        app, runtime = StagedApp(held=False), Runtime(sessions="memory://")

        async def fail(*_: object, **__: object) -> None:
            raise errors.SessionStoreUnavailable("alice", where="x", operation="read", reason="disk")

        async with serving(once(app, runtime=runtime)) as driver:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(runtime.sessions, "resolve", fail)
                assert code_of(await send(driver, "first")) == "session_store_unavailable"
            assert (await send(driver, "second")).body == b"second"


class TestRunWithoutAnAnswer:
    """The app was called: it is never called again."""

    async def test_an_app_that_raised(self) -> None:
        """Somebody outside may have answered 500, which is not known here."""
        app = StagedApp()

        async def step(*_: object) -> None:
            raise KeyError("broken")

        app.steps["first"] = step
        async with serving(once(app)) as driver:
            with pytest.raises(KeyError):
                await keyed(driver, "first").finished()
            assert facts(await send(driver, "second")) == UNKNOWN
        assert runs_of(app) == ["first"]

    @pytest.mark.parametrize("sent", ["nothing", "the start", "half"])
    async def test_a_request_that_was_cancelled_by_the_server(self, sent: str) -> None:
        """At whatever point before the end of its answer."""
        app = StagedApp()

        async def step(_: Scope, __: Receive, send: Send) -> None:
            if sent != "nothing":
                await send(start(200))
            if sent == "half":
                await send(chunk(b"half"))
            await app.released("first")

        app.steps["first"] = step
        async with serving(once(app)) as driver:
            first = keyed(driver, "first")
            await app.entered("first")
            await first.cancel()
            assert facts(await send(driver, "second")) == UNKNOWN
        assert runs_of(app) == ["first"]

    async def test_an_app_that_stops_when_its_client_leaves(self) -> None:
        """It heard the disconnect and gave up."""
        app = StagedApp()

        async def step(_: Scope, receive: Receive, __: Send) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        app.steps["first"] = step
        async with serving(once(app)) as driver:
            first = keyed(driver, "first")
            await app.entered("first")
            first.disconnect()
            await first.finished()
            assert facts(await send(driver, "second")) == UNKNOWN
        assert runs_of(app) == ["first"]

    async def test_an_app_that_answers_nothing(self) -> None:
        """It returned without a response."""
        app = StagedApp()

        async def step(*_: object) -> None: ...

        app.steps["first"] = step
        wire = Wire()
        async with watched(middleware := once(app)):
            wire.body(b"")
            await wire.call(middleware, scope_of("alice", "first", headers=[(b"idempotency-key", b"one")]))
            again = Wire()
            again.body(b"")
            await again.call(middleware, scope_of("alice", "second", headers=[(b"idempotency-key", b"one")]))
        assert (wire.sent, again.status) == ([], 409)
        assert runs_of(app) == ["first"]


class TestRunToItsEnd:
    """There is an answer, whether or not the first client saw it."""

    @pytest.mark.parametrize("on_disconnect", ["pass", "finish"])
    @pytest.mark.parametrize("release_on", ["app_return", "response_end"])
    @pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
    async def test_a_client_that_gave_up_finds_the_answer_when_it_comes_again(
        self, on_disconnect: str, release_on: str, spec_version: str
    ) -> None:
        """It timed out, the turn ran on and answered nobody; the retry gets the answer."""
        app = StagedApp()

        async def step(_: Scope, __: Receive, send: Send) -> None:
            await app.released("first")
            await send(start(200))
            await send(chunk(b"answer", more=False))

        app.steps["first"] = step
        middleware = once(app, on_disconnect=on_disconnect, release_on=release_on)
        async with serving(middleware, spec_version=spec_version) as driver:
            first = keyed(driver, "first")
            await app.entered("first")
            first.disconnect()
            app.release("first")
            try:
                await first.finished()
            except OSError:  # the server tells the app at its first message
                assert (spec_version, on_disconnect) == ("2.4", "pass")
            second = await send(driver, "second")
        if (spec_version, on_disconnect) == ("2.4", "pass"):
            assert facts(second) == UNKNOWN
        else:
            assert second.body == b"answer"
        assert runs_of(app) == ["first"]

    @pytest.mark.parametrize("ending", ["interrupted", "timed out"])
    async def test_a_refusal_that_ended_the_turn_is_the_answer(self, ending: str) -> None:
        """Interrupted or timed out: the duplicate is told the same, with the turn that took its place."""
        app = StagedApp()
        settings: dict[str, Any] = {"policy": Interrupt(grace=0)} if ending == "interrupted" else {"turn_timeout": 0.01}
        async with serving(once(app, **settings)) as driver:
            first = keyed(driver, "first")
            await app.entered("first")
            if ending == "interrupted":
                app.release("newest")
                await post(driver, "alice", "newest").response()
            told, again = await first.response(), await send(driver, "second")
        assert code_of(told) == ("turn_interrupted" if ending == "interrupted" else "turn_timeout")
        assert (again.status, again.body) == (told.status, told.body)
        assert again.headers["x-should-retry"] == "false"
        assert "second" not in runs_of(app)

    async def test_an_error_that_asks_to_come_again_leaves_the_message_new(self) -> None:
        """The app could not get what it needs and left with an error of ours: 503 with Retry-After, and it is meant."""
        app = StagedApp()

        async def step(*_: object) -> None:
            raise errors.TranscriptBusy("x.jsonl", lock_timeout=1.0)

        app.steps["first"] = step
        app.release("second")
        async with serving(once(app)) as driver:
            assert code_of(await send(driver, "first")) == "transcript_busy"
            assert (await send(driver, "second")).body == b"second"

    async def test_an_error_that_asks_for_nothing_is_the_answer(self) -> None:
        """A conflict of ours that left the app."""
        app = StagedApp()

        async def step(*_: object) -> None:
            raise errors.StaleTurn("x.jsonl", token=1, highest=2)

        app.steps["first"] = step
        async with serving(once(app)) as driver:
            assert [code_of(await send(driver, name)) for name in ("first", "second")] == ["stale_turn"] * 2
        assert runs_of(app) == ["first"]


class TestStreams:
    """They are not kept, and not run twice."""

    @pytest.mark.parametrize("ended", [False, True])
    async def test_a_stream_is_refused_as_a_duplicate(self, ended: bool) -> None:
        """From the moment the app has begun one, and after its end."""
        app = StagedApp()

        async def step(_: Scope, __: Receive, send: Send) -> None:
            await send(start(200, EVENTS))
            await send(chunk(b"data: one\n\n"))
            await app.released("first")
            await send(chunk(b"", more=False))

        app.steps["first"] = step
        async with serving(once(app)) as driver:
            first = keyed(driver, "first")
            assert await first.body_chunk() == b"data: one\n\n"
            if ended:
                app.release("first")
                await first.response()
            assert facts(await send(driver, "second")) == (409, "duplicate_stream", "false")
            app.release("first")
            await first.finished()
        assert runs_of(app) == ["first"]

    @pytest.mark.parametrize("asked", [{"body": b'{"stream": true}'}, {"headers": {"accept": "text/event-stream"}}])
    @pytest.mark.parametrize("ended", [False, True])
    @pytest.mark.parametrize("while_running", ["refuse", "wait"])
    async def test_who_asks_for_a_stream_is_refused_as_a_duplicate(
        self, asked: dict[str, Any], ended: bool, while_running: str
    ) -> None:
        """By body or Accept, while its message waits or runs, and after it; nobody waits for it."""
        app = StagedApp()
        async with serving(once(app, while_running=while_running)) as driver:
            first = keyed(driver, "first", **asked)
            await app.entered("first")
            if ended:
                app.release("first")
                await first.finished()
            assert facts(await send(driver, "second", **asked)) == (409, "duplicate_stream", "false")
            app.release("first")
            await first.finished()
        assert runs_of(app) == ["first"]

    @pytest.mark.parametrize("body", [b'{"stream": false}', b'["stream"]', b'{"stream"', b'{"a": {"stream": true}}'])
    async def test_what_only_looks_like_it_is_none(self, body: bytes) -> None:
        """The member must be there, on top, and true."""
        app = StagedApp(held=False)
        async with serving(once(app)) as driver:
            assert [(await send(driver, name, body=body)).body for name in ("a", "b")] == [b"a", b"a"]


class TestTheStoreFails:
    """What can not be told is not run."""

    @pytest.mark.parametrize("operation", ["claim", "begin"])
    async def test_before_the_app_the_message_is_refused(self, operation: str) -> None:
        """503 with Retry-After; it can come again."""
        app, store = StagedApp(held=False), FailingDuplicates(operation)
        async with serving(once(app, store=store)) as driver:
            refused = await send(driver, "first")
            assert (refused.status, code_of(refused)) == (503, "duplicates_unavailable")
            store.operation = ""
            assert (await send(driver, "second")).body == b"second"
        assert runs_of(app) == ["second"]

    async def test_after_the_app_the_answer_is_sent_all_the_same(self, caplog: pytest.LogCaptureFixture) -> None:
        """And logged; the message is not run again."""
        app, store = StagedApp(held=False), FailingDuplicates("finish")
        async with serving(once(app, store=store)) as driver:
            assert (await send(driver, "first")).body == b"first"
            store.operation = ""
            assert facts(await send(driver, "second")) == UNKNOWN
        assert "answer_not_kept" in caplog.text
        assert runs_of(app) == ["first"]

    async def test_a_message_that_could_not_be_freed_is_new_all_the_same(self) -> None:
        """Its run is known to have ended without the app."""
        app, store = StagedApp(), FailingDuplicates("free")
        async with serving(once(app, store=store, policy=Reject())) as driver:
            holder = post(driver, "alice", "holder")
            await app.entered("holder")
            assert code_of(await send(driver, "first")) == "lane_busy"
            app.release("holder", "second")
            await holder.finished()
            assert (await send(driver, "second")).body == b"second"

    async def test_what_somebody_else_has_taken_over_is_not_run(self) -> None:
        """Thought dead while it waited, it finds at the end of the wait that the message is another's."""
        app, store = StagedApp(), MemoryDuplicateStore()
        async with serving(once(app, store=store)) as driver:
            post(driver, "alice", "holder")
            await app.entered("holder")
            first = keyed(driver, "first")
            await first.until_idle()
            [(message, record)] = vars(store)["_records"].items()
            another = replace(record, run="another")
            await store.claim(message, another, replaces=record)
            app.release("holder")
            assert code_of(await first.response()) == "duplicate_running"
        assert runs_of(app) == ["holder"]


async def test_a_cancellation_while_the_answer_is_being_kept_keeps_it() -> None:
    """What has begun is finished before the cancellation goes on, and sent: the turn has had its answer."""
    app, writing, go_on = StagedApp(held=False), asyncio.Event(), asyncio.Event()

    class Slow(MemoryDuplicateStore):
        waits = True

        async def finish(self, message: str, record: MessageRecord, *, at: float, limit: int) -> bool:
            writing.set()
            await go_on.wait()
            return await super().finish(message, record, at=at, limit=limit)

    async def step(_: Scope, __: Receive, send: Send) -> None:
        await answer_with(send, b"answer")

    app.steps["first"] = step
    async with serving(once(app, store=Slow())) as driver:
        first = keyed(driver, "first")
        await writing.wait()
        first.task.cancel()
        await passes()
        assert not first.task.done()
        go_on.set()
        await asyncio.wait({first.task})
        assert first.task.cancelled()
        assert (await first.response()).body == b"answer"
        assert (await send(driver, "second")).body == b"answer"
