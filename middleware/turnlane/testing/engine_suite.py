"""What every engine must keep, as async functions that raise `SuiteFailure`.

Run each of `CHECKS` with a function that makes engines which are not open and share one place, empty at first:

    for check in CHECKS:
        await check(make_engine)

It finds broken promises of engines in one process. What processes do that are stopped or killed, and what networks do,
depends on the engine and is for its own tests.
"""

import asyncio
import itertools
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from turnlane.engines import (
    Alive,
    Answer,
    Ask,
    Carried,
    Draining,
    End,
    Engine,
    Full,
    Granted,
    Interrupted,
    Lost,
    Note,
    Offered,
    Over,
    Queued,
    Told,
)
from turnlane.testing.session_store_suite import SuiteFailure

__all__ = ("CHECKS", "Check", "SuiteFailure", "Worker", "workers")

MakeEngine = Callable[[], Engine]
Check = Callable[[MakeEngine], Awaitable[None]]
"""One promise: an async function of what makes engines."""

PATIENCE = 10.0  # seconds for a note that has to come

_T = TypeVar("_T")
_N = TypeVar("_N", Granted, Over, Interrupted, Offered)


class Worker:
    """One worker of an engine, and what it was told.

    Mutable: `notes`, and `drains`, what all workers were told.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine: Engine = engine
        self.name: str = secrets.token_hex(8)
        self.notes: list[Note] = []
        self.drains: list[bool] = []
        self._numbers = itertools.count(1)
        self._told = asyncio.Event()

    def tell(self, note: Told) -> None:
        """Hear a note."""
        if isinstance(note, Draining):
            self.drains.append(note.draining)
        else:
            self.notes.append(note)
        self._told.set()

    def ticket(self) -> str:
        """Return a new ticket."""
        return f"{self.name}-{next(self._numbers)}"

    async def ask(self, key: str = "k", **wishes: Any) -> tuple[str, Answer]:
        """Come to a lane with a new ticket."""
        ticket = self.ticket()
        return ticket, await self.engine.acquire(key, Ask(ticket=ticket, **wishes))

    async def hold(self, key: str = "k", **wishes: Any) -> Granted:
        """Come to a lane that is idle."""
        _, answer = await self.ask(key, **wishes)
        return _is(answer, Granted, "of an idle lane")

    async def stand(self, key: str = "k", **wishes: Any) -> str:
        """Come to a lane that is busy; return the ticket."""
        ticket, answer = await self.ask(key, **wishes)
        _is(answer, Queued, "of a busy lane")
        return ticket

    async def told(self, kind: type[_N], ticket: str, *, nth: int = 1) -> _N:
        """Return the first note of this kind for a ticket, or the second, waiting for it."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    found = [note for note in self.notes if isinstance(note, kind) and note.ticket == ticket]
                    if len(found) >= nth:
                        return found[nth - 1]
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            raise SuiteFailure(f"no {kind.__name__} for {ticket} came, but {self.notes}") from None

    async def heard(self, count: int) -> None:
        """Wait until so many notes have come."""
        try:
            async with asyncio.timeout(PATIENCE):
                while len(self.notes) < count:
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            raise SuiteFailure(f"no {count} notes came, but {self.notes}") from None

    async def heard_drains(self, *drains: bool) -> None:
        """Wait until all workers were told this, and nothing else."""
        try:
            async with asyncio.timeout(PATIENCE):
                while len(self.drains) < len(drains):
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            pass
        _equal(self.drains, [*drains], "told to all workers")

    async def leave(self, ticket: str, key: str = "k", *, owes: bool | None = False, scatter: bool = False) -> None:
        """Let a lane go, or leave its line."""
        await self.engine.leave(key, ticket, owes=owes, scatter=scatter)


@asynccontextmanager
async def workers(make_engine: MakeEngine, count: int = 2) -> AsyncGenerator[list[Worker], None]:
    """Open so many engines for a block."""
    async with AsyncExitStack() as stack:
        found: list[Worker] = []
        for _ in range(count):
            worker = Worker(make_engine())
            await worker.engine.open(worker.name, worker.tell)
            stack.push_async_callback(worker.engine.aclose)
            found.append(worker)
        yield found


async def an_idle_lane_is_had_at_once(make_engine: MakeEngine) -> None:
    """By anybody, again and again, and nothing is kept of it."""
    async with workers(make_engine) as (a, b):
        first = await a.hold()
        await a.leave(first.ticket)
        second = await b.hold()
        await b.leave(second.ticket)
        _true(second.token > first.token, f"token {second.token} after {first.token}")
        _equal(await a.engine.look(), [], "lanes that live when all have left")


async def lanes_of_different_keys_know_nothing_of_each_other(make_engine: MakeEngine) -> None:
    """Also where their names look alike."""
    async with workers(make_engine) as (a, _):
        for key in ("k", "K", "k ", "k:q", "{k}", "%", "_", "ü", "x" * 512):
            await a.hold(key)
        _equal(len(await a.engine.look()), 9, "lanes that live")


async def tickets_are_granted_in_the_order_they_came(make_engine: MakeEngine) -> None:
    """Whichever worker they are of; tokens grow."""
    async with workers(make_engine, 3) as everybody:
        held = await everybody[0].hold()
        line = [(everybody[n % 3], await everybody[n % 3].stand()) for n in range(9)]
        tokens, leaving = [held.token], (everybody[0], held.ticket)
        for worker, ticket in line:
            await leaving[0].leave(leaving[1])
            tokens.append((await worker.told(Granted, ticket)).token)
            leaving = worker, ticket
        _equal(tokens, sorted(set(tokens)), "tokens")
        granted = [note.ticket for each in everybody for note in each.notes if isinstance(note, Granted)]
        _equal(sorted(granted), sorted(ticket for _, ticket in line), "who was told")


async def whoever_waits_knows_how_many_are_ahead(make_engine: MakeEngine) -> None:
    """The one that has the lane counts."""
    async with workers(make_engine) as (a, b):
        await a.hold()
        _equal([_is((await b.ask())[1], Queued, "behind others").ahead for _ in range(3)], [1, 2, 3], "how many")


async def asking_again_changes_nothing(make_engine: MakeEngine) -> None:
    """Every step of a ticket can be repeated."""
    async with workers(make_engine) as (a, b):
        held = await a.hold()
        again = await a.engine.acquire("k", Ask(ticket=held.ticket))
        _equal(_is(again, Granted, "asked again").token, held.token, "the token")
        waiting = await b.stand()
        last = await b.stand()
        for ticket, ahead in ((waiting, 1), (last, 2)):
            _equal(_is(await b.engine.acquire("k", Ask(ticket=ticket)), Queued, "asked again").ahead, ahead, "ahead")
        for _ in range(3):
            await a.leave(held.ticket)
        await b.told(Granted, waiting)
        await b.leave(last)
        await b.leave(last)
        await b.leave("nobody's ticket")
        await b.leave(waiting)
        _equal(await a.engine.look(), [], "lanes that live")


async def who_leaves_the_line_is_passed(make_engine: MakeEngine) -> None:
    """Wherever it stands."""
    async with workers(make_engine) as (a, b):
        held = await a.hold()
        one, two, three = [await b.stand() for _ in range(3)]
        await b.leave(two)
        await b.leave(one)
        await a.leave(held.ticket)
        await b.told(Granted, three)


async def who_will_not_wait_is_refused(make_engine: MakeEngine) -> None:
    """With how many are before it; nothing of it is left."""
    async with workers(make_engine) as (a, b):
        held = await a.hold()
        _equal((await b.ask(room=0))[1], Full(1), "room for nobody")
        waiting = await b.stand(room=1)
        _equal((await b.ask(room=1))[1], Full(2), "room for one")
        await b.leave(waiting)
        await a.leave(held.ticket)
        await b.hold(room=0)


async def a_worker_that_is_closed_has_left_everywhere(make_engine: MakeEngine) -> None:
    """What it had is granted to who is next, where it waited it is passed."""
    async with workers(make_engine, 3) as (a, b, c):
        await a.hold()
        await a.stand()
        waiting = await b.stand()
        await a.stand()
        last = await c.stand()
        await a.engine.aclose()
        await b.told(Granted, waiting)
        await b.leave(waiting)
        await c.told(Granted, last)
        _equal([len(lane.waiting) for lane in await c.engine.look()], [0], "who waits")
        await b.stand()
        await b.engine.pause("k", True)  # so that nobody passes it
        await b.engine.aclose()
        _equal([len(lane.waiting) for lane in await c.engine.look("k")], [0], "who waits for a paused lane")
        await c.engine.pause("k", False)


async def an_interruption_reaches_whoever_has_the_lane(make_engine: MakeEngine) -> None:
    """Those in line are superseded, and what was written may be owed."""
    async with workers(make_engine, 3) as (a, b, c):
        held = await a.hold()
        waiting = await b.stand()
        newest = await c.stand(over="rollback", grace=2.5)
        asked = await a.told(Interrupted, held.ticket)
        _equal(asked, Interrupted("k", held.ticket, newest, 2.5, True), "what was told")
        over = await b.told(Over, waiting)
        _equal(over, Over("k", waiting, "superseded", newest), "what was told")
        behind = await b.stand()
        await a.leave(held.ticket)
        _true((await c.told(Granted, newest)).owes, "something is to be taken back")
        await c.leave(newest, owes=True)
        _true((await b.told(Granted, behind)).owes, "it is still to be taken back")
        last = await a.stand()
        await b.leave(behind, owes=None)
        _true((await a.told(Granted, last)).owes, "it is still to be taken back by the one behind who said nothing")
        await a.leave(last)
        held = await a.hold()
        _true(not held.owes, "it was taken back")
        await a.leave(held.ticket, owes=None)
        _equal(await a.engine.look(), [], "the lanes where nothing is to be taken back")


async def who_asks_again_of_an_idle_lane_hears_how_its_wait_has_ended(make_engine: MakeEngine) -> None:
    """The answer to its first question may have been lost, and the note."""
    async with workers(make_engine) as (a, b):
        held = await a.hold()
        waiting = await b.stand()
        newest = await a.stand(over="interrupt")
        await a.leave(held.ticket)
        await a.leave(newest)
        _equal(await a.engine.look(), [], "the lanes that live")
        answer = await b.engine.acquire("k", Ask(ticket=waiting, again=True))
        _equal(answer, Over("k", waiting, "superseded", newest), "what is said of it")
        fresh = await b.engine.acquire("k", Ask(ticket=b.ticket(), again=True))
        await b.leave(_is(fresh, Granted, "of an idle lane that was never heard of").ticket)


async def an_operator_interrupts(make_engine: MakeEngine) -> None:
    """In whatever worker; on an idle lane nobody."""
    async with workers(make_engine) as (a, b):
        _equal(await b.engine.interrupt("k", grace=1.0), False, "an idle lane")
        held = await a.hold()
        waiting = await b.stand()
        _equal(await b.engine.interrupt("k", grace=1.0), True, "a busy lane")
        _equal(await a.told(Interrupted, held.ticket), Interrupted("k", held.ticket, "", 1.0), "what was told")
        await a.leave(held.ticket)
        _true(not (await b.told(Granted, waiting)).owes, "nothing is to be taken back")


async def a_paused_lane_is_granted_to_nobody(make_engine: MakeEngine) -> None:
    """Who has it goes on; who comes waits."""
    async with workers(make_engine) as (a, b):
        held = await a.hold()
        await b.engine.pause("k", True)
        waiting = await b.stand()
        await a.leave(held.ticket)
        _equal((await b.ask(room=1))[1], Full(1), "a paused lane where one waits")
        [lane] = await a.engine.look("k")
        _equal((lane.paused, lane.holder, len(lane.waiting)), (True, None, 1), "how it is")
        await a.engine.pause("k", False)
        await b.told(Granted, waiting)
        await b.leave(waiting)
        await a.engine.pause("k", True)
        await b.stand()
        await a.engine.pause("k", False)


async def all_workers_are_told_to_drain(make_engine: MakeEngine) -> None:
    """Those that have no ticket, too, and whoever said so; lanes go on as they did."""
    async with workers(make_engine, 3) as (a, b, c):
        held = await a.hold()
        for drains in ([True], [True, False], [True, False, True]):
            await b.engine.pause(None, drains[-1])
            for worker in (a, b, c):
                await worker.heard_drains(*drains)
        waiting = await c.stand()
        await a.leave(held.ticket)
        await c.told(Granted, waiting)
        [lane] = await a.engine.look()
        _true(not lane.paused, "a drain pauses no lane")


async def tickets_that_stand_together_are_granted_as_one(make_engine: MakeEngine) -> None:
    """That of the newest, with the messages of the others; they wait until they are settled."""
    async with workers(make_engine, 3) as (a, b, c):
        held = await a.hold()
        one = await a.stand(tag="t", payload=b"one")
        two = await b.stand(tag="t", payload=b"two")
        three = await c.stand(tag="t", payload=b"three")
        other = await a.stand(tag="u", payload=b"other")
        await a.leave(held.ticket)
        granted = await c.told(Granted, three)
        _equal(granted.carried, (Carried(one, b"one"), Carried(two, b"two")), "what is carried")
        ends = [End(one, "coalesced", b"result"), End(two, "coalesced")]
        await c.engine.settle("k", three, ends)
        _equal(await a.told(Over, one), Over("k", one, "coalesced", three, b"result"), "what was told")
        _equal(await b.told(Over, two), Over("k", two, "coalesced", three), "what was told")
        await c.leave(three)
        _equal((await a.told(Granted, other)).carried, (), "what another carries")


async def who_carries_others_and_leaves_puts_them_back(make_engine: MakeEngine) -> None:
    """Where they stood: together, or, by choice, each alone."""
    async with workers(make_engine) as (a, b):
        for scatter in (False, True):
            held = await a.hold()
            one, two, three = [await b.stand(tag="t", payload=b"m") for _ in range(3)]
            behind = await a.stand()
            await a.leave(held.ticket)
            await b.told(Granted, three)
            await b.leave(three, scatter=scatter)
            if scatter:
                await b.told(Granted, one)
                await b.leave(one)
                _equal((await b.told(Granted, two)).carried, (), "what it carries")
            else:
                _equal((await b.told(Granted, two)).carried, (Carried(one, b"m"),), "what it carries")
                await b.engine.settle("k", two, [End(one, "coalesced")])
            await b.leave(two)
            await a.told(Granted, behind)
            await a.leave(behind)


async def who_waits_for_a_result_is_told_so_and_waits_on(make_engine: MakeEngine) -> None:
    """It is not superseded then."""
    async with workers(make_engine, 3) as (a, b, c):
        held = await a.hold()
        one = await b.stand(tag="t", payload=b"one")
        two = await c.stand(tag="t", payload=b"two")
        await a.leave(held.ticket)
        await c.told(Granted, two)
        await c.engine.settle("k", two, [End(one, "shared")])
        _equal(await b.told(Over, one), Over("k", one, "shared", two), "what was told")
        newest = await a.stand(over="interrupt")
        await c.engine.settle("k", two, [End(one, "coalesced", b"result")])
        await c.leave(two)
        await a.told(Granted, newest)
        await b.told(Over, one, nth=2)
        overs = [note for note in b.notes if isinstance(note, Over)]
        _equal(overs[1:], [Over("k", one, "coalesced", two, b"result")], "what was told")


async def no_more_stand_together_than_may(make_engine: MakeEngine) -> None:
    """One more is refused, or takes the place of the oldest, whose message is told."""
    async with workers(make_engine) as (a, b):
        held = await a.hold()
        one = await b.stand(tag="t", payload=b"one", most=2)
        two = await b.stand(tag="t", payload=b"two", most=2)
        _equal((await b.ask(tag="t", most=2))[1], Full(2, together=True), "a third")
        three = await b.stand(tag="t", payload=b"three", most=2, overflow="oldest")
        _equal(await b.told(Over, one), Over("k", one, "superseded", three), "what was told")
        await a.leave(held.ticket)
        granted = await b.told(Granted, three)
        _equal((granted.carried, granted.dropped), ((Carried(two, b"two"),), (b"one",)), "what is carried, and dropped")


async def a_window_is_waited_for(make_engine: MakeEngine) -> None:
    """Only where the lane is busy; a step after it grants it."""
    async with workers(make_engine) as (a, b):
        held = await a.hold(tag="t", window=0.05)
        waiting = await b.stand(tag="t", window=0.05, payload=b"m")
        began = asyncio.get_running_loop().time()
        await a.leave(held.ticket)
        while not b.notes and asyncio.get_running_loop().time() - began < PATIENCE:
            await b.leave("")
            await asyncio.sleep(0.001)
        await b.told(Granted, waiting)
        _true(asyncio.get_running_loop().time() - began > 0.02, "it was waited for")


async def a_message_is_offered_to_whoever_has_the_lane(make_engine: MakeEngine) -> None:
    """Taken there its sender is told; else it has its turn."""
    async with workers(make_engine) as (a, b):
        held = await a.hold()
        taken = await b.stand(steer=True, payload=b"taken", whom="alice")
        left = await b.stand(steer=True, payload=b"left", whom="alice")
        offer = await a.told(Offered, held.ticket)
        _equal(offer, Offered("k", held.ticket, taken, "alice", b"taken"), "what was offered")
        await a.engine.settle("k", held.ticket, [End(taken, "steered")])
        _equal(await b.told(Over, taken), Over("k", taken, "steered", held.ticket), "what was told")
        await a.leave(held.ticket)
        await b.told(Granted, left)


async def what_was_missed_is_told_again(make_engine: MakeEngine) -> None:
    """By `renew`; of a ticket nobody knows, that."""
    async with workers(make_engine) as (a, b):
        held = await a.hold()
        superseded = await b.stand()
        newest = await b.stand(over="interrupt", grace=3.0)
        waits = await b.stand()
        told = await a.engine.renew([Alive("k", held.ticket, held.token)])
        _equal(told, [held, Interrupted("k", held.ticket, newest, 3.0)], "what is told of who has the lane")
        told = await b.engine.renew([Alive("k", ticket) for ticket in (superseded, newest, waits, "nobody's")])
        _equal(told, [Over("k", superseded, "superseded", newest), Lost("k", "nobody's")], "what is told of others")
        await a.leave(held.ticket)
        granted = await b.told(Granted, newest)
        _equal(await b.engine.renew([Alive("k", newest, granted.token)]), [granted], "what is told of who has it now")


CHECKS: tuple[Check, ...] = (
    an_idle_lane_is_had_at_once,
    lanes_of_different_keys_know_nothing_of_each_other,
    tickets_are_granted_in_the_order_they_came,
    whoever_waits_knows_how_many_are_ahead,
    asking_again_changes_nothing,
    who_leaves_the_line_is_passed,
    who_will_not_wait_is_refused,
    a_worker_that_is_closed_has_left_everywhere,
    an_interruption_reaches_whoever_has_the_lane,
    who_asks_again_of_an_idle_lane_hears_how_its_wait_has_ended,
    an_operator_interrupts,
    a_paused_lane_is_granted_to_nobody,
    all_workers_are_told_to_drain,
    tickets_that_stand_together_are_granted_as_one,
    who_carries_others_and_leaves_puts_them_back,
    who_waits_for_a_result_is_told_so_and_waits_on,
    no_more_stand_together_than_may,
    a_window_is_waited_for,
    a_message_is_offered_to_whoever_has_the_lane,
    what_was_missed_is_told_again,
)
"""Every promise, in the order of the contract."""


def _is(found: object, kind: type[_T], what: str) -> _T:
    if not isinstance(found, kind):
        raise SuiteFailure(f"{what}: {found!r} is no {kind.__name__}")
    return found


def _equal(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise SuiteFailure(f"{what}: {found!r} instead of {wanted!r}")


def _true(found: object, what: str) -> None:
    if not found:
        raise SuiteFailure(f"not so: {what}")
