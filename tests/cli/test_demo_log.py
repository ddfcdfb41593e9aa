"""The notes the demo server takes."""

import asyncio
import threading

import pytest

from turnlane.cli.demo.log import NotedArrivals, TurnLog
from turnlane.testing import AsgiDriver


def test_notes_keep_their_order() -> None:
    """The number of a note is its place, and time does not go back."""
    log = TurnLog()
    log.note("arrived", "a")
    log.note("loaded", "a", session_id="s", remembered=("x",))
    first, second = log.notes()
    assert (first.kind, first.number, second.number) == ("arrived", 0, 1)
    assert (second.session_id, second.remembered) == ("s", ("x",))
    assert second.at >= first.at


async def test_a_note_of_another_thread_wakes_who_waits() -> None:
    """The client waits in its loop for what the server's thread notes."""
    log = TurnLog()
    waiting = asyncio.create_task(log.noted("arrived", "a", timeout=10))
    await asyncio.sleep(0)
    thread = threading.Thread(target=log.note, args=("arrived", "a"))
    thread.start()
    await waiting
    thread.join()


async def test_a_note_taken_before_is_not_waited_for() -> None:
    """Waiting returns at once, in a log that takes no more notes too."""
    log = TurnLog()
    log.note("arrived", "a")
    log.close()
    await log.noted("arrived", "a", timeout=0)
    log.note("arrived", "b")
    assert [note.label for note in log.notes()] == ["a"]


async def test_waiting_for_a_note_is_bounded() -> None:
    """A note that does not come is a TimeoutError."""
    with pytest.raises(TimeoutError):
        await TurnLog().noted("arrived", "a", timeout=0)


async def test_arrivals_are_noted_for_labelled_requests_only() -> None:
    """Arrived when the request comes in, returned when the app is done, also when the app fails."""

    async def app(scope: object, receive: object, send: object) -> None:
        seen_inside.append(len(log.notes()))
        raise RuntimeError("planted")

    log = TurnLog()
    seen_inside: list[int] = []
    async with AsgiDriver(NotedArrivals(app, log=log)) as driver:
        for headers in ({"x-demo-message": "a"}, {"x-other": "b"}):
            request = driver.start("POST", "/", headers=headers)
            with pytest.raises(RuntimeError, match="planted"):
                await request.finished()
    assert seen_inside == [1, 2]
    assert [(note.kind, note.label) for note in log.notes()] == [("arrived", "a"), ("returned", "a")]


def test_a_waiter_whose_loop_is_closed_is_woken_no_more() -> None:
    """A client that is stopped while it waits leaves nothing behind that the server's thread would trip over."""
    log = TurnLog()

    async def stopped() -> None:
        waiting = asyncio.create_task(log.noted("returned", "ada"))
        others = asyncio.create_task(log.noted("returned", "ada"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        others.cancel()
        await asyncio.wait([others])

    asyncio.run(stopped())
    log.note("returned", "ada")
    assert [note.kind for note in log.notes()] == ["returned"]
