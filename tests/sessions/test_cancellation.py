"""A write that has begun is finished before a cancellation of its caller is reported."""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest

from sessions.helpers import StepClock, WrappedStore
from turnlane.hooks import Hooks, SessionMinted
from turnlane.sessions import Freshness, MemorySessionStore, Session, SessionEntry, Sessions
from turnlane.sessions.base import Change, Reservation


class GatedStore(WrappedStore):
    """Stops every write half-way until the test lets it go on."""

    def __init__(self) -> None:
        super().__init__(MemorySessionStore())
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()

    async def pass_gate(self) -> None:
        self.entered.set()
        await self.gate.wait()

    async def reserve(self, key: str, session_id: str, *, at: float, replaces: SessionEntry | None) -> Reservation:
        await self.pass_gate()
        return await super().reserve(key, session_id, at=at, replaces=replaces)

    async def mutate(self, key: str, change: Change) -> SessionEntry | None:
        await self.pass_gate()
        return await super().mutate(key, change)

    async def touch(self, key: str, *, at: float) -> None:
        await self.pass_gate()
        await super().touch(key, at=at)

    async def delete(self, key: str) -> bool:
        await self.pass_gate()
        return await super().delete(key)


async def mint(sessions: Sessions) -> None:
    await sessions.resolve("new")


async def mint_again(sessions: Sessions) -> None:
    await sessions.resolve("k")


async def patch(sessions: Sessions) -> None:
    await sessions.patch("k", {"a": 1})


async def edit(sessions: Sessions) -> None:
    async with sessions.edit("k") as draft:
        draft["a"] = 1


async def renew(sessions: Sessions) -> None:
    await sessions.renew("k")


async def touch(sessions: Sessions) -> None:
    await sessions.touch("k")


async def delete(sessions: Sessions) -> None:
    await sessions.delete("k")


async def cancelled_by_task(work: Awaitable[None], store: GatedStore) -> bool:
    """Cancel three times while the write is half-way; tell whether the cancellation was reported."""
    task = asyncio.ensure_future(work)
    await store.entered.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    store.gate.set()
    await asyncio.wait((task,))
    return task.cancelled()


async def cancelled_by_scope(work: Awaitable[None], store: GatedStore) -> bool:
    """Cancel a scope of anyio around the write; tell whether the cancellation was reported after it."""
    scope = anyio.CancelScope()

    async def scoped() -> None:
        with scope:
            await work
            await anyio.lowlevel.checkpoint()

    task = asyncio.ensure_future(scoped())
    await store.entered.wait()
    scope.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    store.gate.set()
    await task
    return scope.cancelled_caught


@pytest.mark.parametrize("cancelled", [cancelled_by_task, cancelled_by_scope])
@pytest.mark.parametrize("write", [mint, mint_again, patch, edit, renew, touch, delete])
async def test_a_cancelled_write_is_finished_first(
    write: Callable[[Sessions], Awaitable[None]],
    cancelled: Callable[[Awaitable[None], GatedStore], Awaitable[bool]],
    clock: StepClock,
) -> None:
    """The change is there when the cancellation is reported, and a mint was told."""
    hooks, minted = Hooks(), list[SessionMinted]()
    hooks.on(SessionMinted, minted.append)
    store = GatedStore()
    await Sessions(store.inner, clock=clock).resolve("k")
    before = await snapshot(store)
    clock.at += 60
    async with Sessions(store, hooks=hooks, clock=clock, freshness=Freshness(idle=1)) as sessions:
        assert await cancelled(write(sessions), store)
        assert store.writes == 1
        assert await snapshot(store) != before
        ids = {session.id for session in await snapshot(store)}
        assert {event.session_id for event in minted} == ids - {session.id for session in before}


async def snapshot(store: GatedStore) -> tuple[SessionEntry, ...]:
    return await store.inner.list("", 10)


async def test_waiting_for_a_write_in_a_cancelled_scope_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scope that was cancelled does not wake the waiting task over and over."""
    waits: list[object] = []
    wait = asyncio.wait

    def counted(tasks: tuple[asyncio.Task[None], ...]) -> Awaitable[object]:
        waits.append(tasks)
        return wait(tasks)

    store = GatedStore()
    sessions = Sessions(store)
    assert await sessions.get("k") is None
    monkeypatch.setattr(asyncio, "wait", counted)
    assert await cancelled_by_scope(touch(sessions), store)
    assert len(waits) == 1


async def test_a_failed_write_of_a_cancelled_caller_is_not_complained_about() -> None:
    """The cancellation wins, and the loop's exception handler hears nothing."""

    class Failing(GatedStore):
        async def touch(self, key: str, *, at: float) -> None:
            await self.pass_gate()
            raise RuntimeError("lost")

    store = Failing()
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    assert await cancelled_by_task(touch(Sessions(store)), store)
    assert complaints == []


async def test_the_end_of_the_loop_still_ends_a_write() -> None:
    """Cancelling the write itself, as the end of a loop does, is passed on and not waited for."""
    store = GatedStore()
    sessions = Sessions(store)
    task = asyncio.ensure_future(sessions.touch("k"))
    await store.entered.wait()
    inner = next(found for found in asyncio.all_tasks() if found not in (task, asyncio.current_task()))
    inner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_reader_stops_at_once() -> None:
    """Reading has nothing to finish."""

    class SlowReads(WrappedStore):
        async def read(self, key: str) -> SessionEntry | None:
            await asyncio.Event().wait()
            raise AssertionError("read on")

    reading: asyncio.Task[Session | None] = asyncio.ensure_future(Sessions(SlowReads(MemorySessionStore())).get("k"))
    for _ in range(5):
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
