"""Messages with idempotency keys that another turn answers: they are not run again either."""

import pytest

from support.asgi_duplicates import FailingDuplicates, code_of, keyed, once, runs_of, send
from support.asgi_groups import held_until_released, plus, refuse
from support.asgi_staged import StagedApp, answer_with, in_line, passes, post, serving
from turnlane import Coalesce, Steer, current_turn


def gathering(*, share_result: bool = False) -> Coalesce:
    """Return a policy that merges what waits as soon as the lane is free."""
    return Coalesce(window=0, merge=plus, share_result=share_result)


async def test_a_message_that_was_coalesced_is_told_so_again() -> None:
    """Its words were answered: a second run would say them twice."""
    app = StagedApp()
    app.steps["holder"] = held_until_released(app)
    middleware = once(app, policy=gathering())
    async with serving(middleware) as driver:
        holder = post(driver, "alice", "holder")
        await app.entered("holder")
        first = keyed(driver, "first", body=b"1")
        await in_line(middleware, 1)
        newest = keyed(driver, "newest", "two", body=b"2")
        await in_line(middleware, 2)
        app.release("holder", "newest")
        told = await first.response()
        assert code_of(told) == "turn_coalesced"
        assert app.bodies.get("newest", b"1+2") == b"1+2"
        await newest.response()
        again = await send(driver, "again", body=b"1")
        await holder.finished()
    assert (again.status, again.body) == (told.status, told.body)
    assert again.headers["idempotent-replayed"] == "true"
    assert runs_of(app) == ["holder", "newest"]


async def test_a_message_whose_sender_left_before_it_got_the_shared_answer() -> None:
    """Another turn answers it, and nobody knows how: it is told as unknown, and not run again."""
    app = StagedApp()
    app.steps["holder"] = held_until_released(app)
    middleware = once(app, policy=gathering(share_result=True))
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        first = keyed(driver, "first", body=b"1")
        await in_line(middleware, 1)
        newest = keyed(driver, "newest", "two", body=b"2")
        await in_line(middleware, 2)
        app.release("holder")
        await app.entered("newest")
        first.disconnect()
        await first.finished()
        again = await send(driver, "again", body=b"1")
        app.release("newest")
        await newest.response()
    assert code_of(again) == "duplicate_outcome_unknown"
    assert runs_of(app) == ["holder", "newest"]


@pytest.mark.parametrize("done", [True, False])
async def test_a_message_that_was_steered(done: bool) -> None:
    """Done with by the turn that ran, it is told so again; not done with, it was a turn and has an answer."""
    app = StagedApp()

    async def steered(scope: object, receive: object, send: object) -> None:
        await app.released("holder")
        turn = current_turn()
        assert turn is not None
        taken = turn.steering.take()
        assert taken is not None
        assert not done or taken.done()
        await answer_with(send)  # type: ignore[arg-type]

    app.steps["holder"] = steered
    middleware = once(app, policy=Steer())
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        first = keyed(driver, "first", body=b"1")
        await in_line(middleware, 1)
        app.release("holder", "first")
        told = await first.response()
        await passes(3)
        again = await send(driver, "again", body=b"1")
    assert code_of(told) == ("turn_steered" if done else "")
    assert (again.status, again.body) == (told.status, told.body)
    assert runs_of(app) == (["holder"] if done else ["holder", "first"])


@pytest.mark.parametrize("stays", [True, False])
async def test_a_store_that_can_not_be_told_changes_nothing(stays: bool) -> None:
    """The sender is told the turn, and the message does not run again; nor is it held for running for ever."""
    app, store = StagedApp(), FailingDuplicates("begin")
    app.steps["holder"] = held_until_released(app)
    middleware = once(app, store=store, policy=gathering(share_result=True))
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        first = keyed(driver, "first", body=b"1")
        await in_line(middleware, 1)
        newest = post(driver, "alice", "newest", body=b"2")
        await in_line(middleware, 2)
        app.release("holder")
        await app.entered("newest")
        if not stays:
            first.disconnect()
            await first.finished()
        app.release("newest")
        await newest.response()
        if stays:
            assert (await first.response()).text == "newest"
            await first.finished()
        again = await send(driver, "again", body=b"1")
    assert (code_of(again) or again.text) == ("newest" if stays else "duplicate_outcome_unknown")
    assert runs_of(app) == ["holder", "newest"]


@pytest.mark.parametrize("share_result", [False, True])
async def test_nobody_is_part_of_a_turn_that_the_store_keeps_from_running(share_result: bool) -> None:
    """The newest is refused and may come again; the one beside it runs alone."""
    app, store = StagedApp(), FailingDuplicates("begin")
    app.steps["holder"] = held_until_released(app)
    middleware = once(app, store=store, policy=gathering(share_result=share_result))
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        first = post(driver, "alice", "first", body=b"1")
        await in_line(middleware, 1)
        newest = keyed(driver, "newest", body=b"2")
        await in_line(middleware, 2)
        app.release("holder", "first", "again")
        assert code_of(await newest.response()) == "duplicates_unavailable"
        assert (await first.response()).text == "first"
        store.operation = ""
        assert (await send(driver, "again", body=b"2")).text == "again"
    assert runs_of(app) == ["holder", "first", "again"]


async def test_a_message_whose_merge_failed_is_new() -> None:
    """The app was not called."""
    app = StagedApp(held=False)
    app.steps["holder"] = held_until_released(app)
    middleware = once(app, policy=Coalesce(window=0, merge=refuse))
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        first = post(driver, "alice", "first", body=b"1")
        await in_line(middleware, 1)
        newest = keyed(driver, "newest", body=b"2")
        await in_line(middleware, 2)
        app.release("holder")
        assert (await first.response()).text == "first"
        with pytest.raises(ValueError, match="not these"):
            await newest.finished()
        assert (await send(driver, "again", body=b"2")).text == "again"
    assert runs_of(app) == ["holder", "first", "again"]
