"""Calls that joined a turn and go on when its own block has ended: the lane waits for them too."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.turns_steps import apart, until_idle
from turnlane import Runtime, Turn, errors
from turnlane.testing import assert_no_leaks


class Answers:
    """Calls that begin, wait to be released and end."""

    def __init__(self) -> None:
        self.runtime = Runtime()
        self.seen: list[str] = []
        self.release = asyncio.Event()

        @self.runtime.agent_turn(key="key")
        async def answer(key: str, name: str, *, turn: Turn) -> str:
            self.seen.append(f"{name} begins")
            try:
                await self.release.wait()
            finally:
                self.seen.append(f"{name} ends")
            return turn.id

        self.answer = answer


async def test_the_next_turn_waits_for_a_call_that_nobody_waits_for() -> None:
    """A handler that starts its answer in a task and returns: the next message still comes after it."""
    answers = Answers()
    async with answers.runtime.turn("a") as turn:
        late = asyncio.create_task(answers.answer("a", "first"))
        await until_idle()
    assert answers.runtime.lanes.statistics().running == 1
    following = apart(answers.answer("a", "second"))
    await until_idle()
    assert answers.seen == ["first begins"]
    answers.release.set()
    assert await late == turn.id
    assert await following != turn.id
    assert answers.seen == ["first begins", "first ends", "second begins", "second ends"]
    assert answers.runtime.lanes.statistics().totals == {"completed": 2}
    assert_no_leaks(answers.runtime.lanes)


async def test_the_last_of_several_lets_the_lane_go() -> None:
    """However many there are, and one in the same task as another."""
    answers = Answers()
    async with answers.runtime.turn("a"):
        late = [asyncio.create_task(answers.answer("a", str(number))) for number in range(3)]
        await until_idle()
    late[0].cancel()
    await asyncio.wait({late[0]})
    assert answers.runtime.lanes.statistics().running == 1
    answers.release.set()
    await asyncio.wait(late)
    assert_no_leaks(answers.runtime.lanes)


async def test_a_call_that_had_not_begun_takes_a_turn_of_its_own() -> None:
    """The turn it was started in is over when it begins."""
    answers = Answers()
    answers.release.set()
    async with answers.runtime.turn("a") as turn:
        late = asyncio.create_task(answers.answer("a", "late"))
    assert await late != turn.id
    assert_no_leaks(answers.runtime.lanes)


async def test_what_the_block_raised_is_how_the_turn_ended() -> None:
    """Told when the lane goes, not before."""
    answers = Answers()
    late: list[asyncio.Task[str]] = []

    async def block() -> None:
        async with answers.runtime.turn("a"):
            late.append(asyncio.create_task(answers.answer("a", "late")))
            await until_idle()
            raise OSError("no model")

    with pytest.raises(OSError, match="no model"):
        await block()
    assert answers.runtime.lanes.statistics().totals == {"completed": 0}
    answers.release.set()
    await late[0]
    assert answers.runtime.lanes.statistics().totals == {"completed": 0, "failed": 1}


async def test_an_interruption_is_theirs() -> None:
    """They are cancelled in the place of the block that has ended."""
    answers = Answers()
    async with answers.runtime.turn("a"):
        late = asyncio.create_task(answers.answer("a", "late"))
        await until_idle()
    assert answers.runtime.lanes.interrupt("a", grace=0)
    with pytest.raises(errors.TurnInterrupted):
        await late
    assert answers.seen == ["late begins", "late ends"]
    assert_no_leaks(answers.runtime.lanes)


async def test_interrupted_before_the_block_ended() -> None:
    """Both get their TurnInterrupted, the call when the block has had its grace; the successor comes after both."""
    answers = Answers()
    late: list[asyncio.Task[str]] = []

    async def block() -> None:
        async with answers.runtime.turn("a") as turn:
            late.append(asyncio.create_task(answers.answer("a", "late")))
            try:
                await asyncio.Event().wait()
            finally:
                assert turn.interrupted

    task = apart(block())
    await until_idle()
    assert answers.runtime.lanes.interrupt("a", grace=0)
    for interrupted in (task, late[0]):
        with pytest.raises(errors.TurnInterrupted):
            await interrupted
        assert not interrupted.cancelling()
    assert_no_leaks(answers.runtime.lanes)


async def test_a_generator_that_joined_holds_the_lane_while_it_is_open() -> None:
    """Read on after the turn it joined: nobody else runs until it has ended or is closed."""
    runtime = Runtime()

    @runtime.agent_turn(key="key")
    async def words(key: str) -> AsyncIterator[str]:
        for word in ("one", "two"):
            yield word

    async with runtime.turn("a"):
        items = words("a")
        assert await anext(items) == "one"
    assert runtime.lanes.statistics().running == 1
    assert [word async for word in items] == ["two"]
    assert_no_leaks(runtime.lanes)


async def test_a_returned_stream_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """A response that streams after the function has returned streams without its lane."""
    runtime = Runtime()

    class Response:
        body_iterator = None

    @runtime.agent_turn(key="key")
    async def endpoint(key: str, response: object) -> object:
        return response

    await endpoint("a", Response())
    await endpoint("a", "text")
    assert [record.getMessage().split(" ")[0] for record in caplog.records] == ["work_after_turn"]


async def test_the_turn_timeout_is_theirs_too() -> None:
    """A call that hangs behind a block that has ended is cancelled when the turn's time is over."""
    answers = Answers()
    async with answers.runtime.turn("a", turn_timeout=0.1):
        late = asyncio.create_task(answers.answer("a", "late"))
        await until_idle()
    with pytest.raises(errors.TurnTimeout):
        await late
    assert_no_leaks(answers.runtime.lanes)


async def test_a_task_that_has_moved_on_is_not_cancelled() -> None:
    """It opened a generator inside the turn and left both; what it does now is not part of the turn."""
    runtime = Runtime()

    @runtime.agent_turn(key="key")
    async def words(key: str) -> AsyncIterator[str]:
        yield "one"
        yield "two"

    async with runtime.turn("a"):
        items = words("a")
        assert await anext(items) == "one"
    runtime.lanes.interrupt("a", grace=0)
    await asyncio.sleep(0.01)  # would raise here
    assert [word async for word in items] == ["two"]
    assert_no_leaks(runtime.lanes)


@pytest.mark.parametrize("first", ["interruption", "timeout"])
async def test_the_shorter_time_counts(first: str) -> None:
    """A second interruption with less patience, or the turn timeout that ends before the grace."""
    runtime = Runtime()

    async def block() -> None:
        async with runtime.turn("a", turn_timeout=0.3 if first == "timeout" else None):
            await asyncio.Event().wait()

    task = apart(block())
    await until_idle()
    assert runtime.lanes.interrupt("a", grace=60)
    if first == "interruption":
        assert not runtime.lanes.interrupt("a", grace=0)
    async with asyncio.timeout(5):
        with pytest.raises(errors.TurnInterrupted):
            await task
    assert_no_leaks(runtime.lanes)
