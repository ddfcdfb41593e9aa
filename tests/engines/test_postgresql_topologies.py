"""Lanes, sessions and transcripts in PostgreSQL when a standby takes the place of the server, and behind pgbouncer."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from engines.redis_rig import Occupancy, line_of
from support.lanes_traffic import traffic_on
from support.postgresql import PostgresqlDatabase, connect
from support.postgresql_lanes import a_worker
from support.postgresql_pgbouncer import pgbouncer_before
from support.postgresql_standbys import PostgresqlServer, a_server, a_standby_of
from support.transcripts_scenes import said, user
from turnlane import Lanes
from turnlane.engines import Alive, Granted, Note
from turnlane.engines.postgresql import PostgresqlEngine
from turnlane.errors import EngineUnavailable, OutcomeUnknown
from turnlane.postgresql import address_in
from turnlane.sessions import PostgresqlSessionStore, Sessions
from turnlane.testing.engine_suite import Worker
from turnlane.transcripts import PostgresqlTranscriptStore, Transcripts

KEYS = [f"k{number}" for number in range(20)]
LEASE = 20.0  # a lane is kept for two thirds of it, less a third where it was just to be renewed
PATIENCE = 60.0
# The clock of the server at that port.
BEHIND = """
    CREATE OR REPLACE FUNCTION turnlane.lane_now_1() RETURNS bigint LANGUAGE sql VOLATILE AS $$
        SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
            - CASE current_setting('port') WHEN '{port}' THEN 3600000000 ELSE 0 END
    $$
"""


@dataclass
class Pair:
    """A server and the one that follows it."""

    primary: PostgresqlServer
    standby: PostgresqlServer

    @property
    def url(self) -> str:
        """Both, in the order in which they are tried."""
        return f"postgresql://postgres@127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}/postgres"

    async def is_copied(self) -> None:
        """Return when the standby has what the primary has written."""
        first, second = await connect(self.primary.url), await connect(self.standby.url)
        try:
            written = await first.fetchval("SELECT pg_current_wal_lsn()::text")
            async with asyncio.timeout(PATIENCE):
                while not await second.fetchval(f"SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn"):
                    pass
        finally:
            await first.close()
            await second.close()


@pytest.fixture
def pair() -> Generator[Pair, None, None]:
    with a_server() as primary, a_standby_of(primary) as standby:
        yield Pair(primary, standby)


@asynccontextmanager
async def workers_at(url: str, count: int = 3, *, lease: float = LEASE) -> AsyncGenerator[list[Lanes]]:
    async with AsyncExitStack() as stack:
        found: list[Lanes] = []
        for _ in range(count):
            lanes = await stack.enter_async_context(Lanes(PostgresqlEngine(url, lease=lease, timeout=2.0)))
            async with lanes.turn("the first opens them"):
                found.append(lanes)
        yield found


@pytest.fixture
def is_chosen(how: str, long_form: bool) -> None:
    if how == "crashed" and not long_form:
        pytest.skip("in the long form")


@pytest.mark.parametrize("how", ["crashed", "hangs"])
@pytest.mark.timeout(180)
async def test_a_standby_takes_the_place_of_its_primary_during_turns(
    how: str, is_chosen: None, pair: Pair, seed: int
) -> None:
    """Who has a lane keeps it, who waits keeps its place, tokens grow; what was committed is there."""
    async with (
        workers_at(pair.url) as lanes,
        Sessions(PostgresqlSessionStore(pair.url, timeout=4)) as sessions,
        Transcripts(PostgresqlTranscriptStore(pair.url, timeout=4)) as transcripts,
        traffic_on(lanes, KEYS, seed, patience=PATIENCE) as traffic,
    ):
        before = {key: await sessions.resolve(key) for key in KEYS}
        await transcripts.append(before["k0"].id, user("before"))
        seen, begun, go = Occupancy("the line"), asyncio.Event(), asyncio.Event()
        turns = [asyncio.create_task(seen.visit(lanes[0], "a", begun=begun, go=go))]
        await begun.wait()
        for count, (worker, name) in enumerate(((1, "b"), (2, "c"), (1, "b again")), 1):
            turns.append(asyncio.create_task(seen.visit(lanes[worker], name)))
            await line_of(lanes[2], "the line", count)
        await pair.is_copied()
        async with AsyncExitStack() as stack:
            if how == "crashed":
                await asyncio.to_thread(pair.primary.crash)
            else:
                stack.enter_context(pair.primary.standing_still())
            await asyncio.to_thread(pair.standby.promote)
            async with asyncio.timeout(PATIENCE):
                await line_of_patiently(lanes[2], "the line", 3)
            turns.append(asyncio.create_task(seen.visit(lanes[2], "late")))
            await line_of(lanes[2], "the line", 4)
            go.set()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*turns)
            seen.require_all("a", "b", "c", "b again", "late")
            after = {key: (await sessions.resolve(key)).id for key in KEYS}
            assert after == {key: session.id for key, session in before.items()}
            await transcripts.append(before["k0"].id, user("after"))
            assert said(await transcripts.read(before["k0"].id)) == ["before", "after"]
            await traffic.go_on_for(50)
            if how == "hangs":
                await asyncio.to_thread(pair.primary.crash)
    traffic.require_order()
    assert set(traffic.refused) <= {"EngineUnavailable"}
    assert traffic.longest < 10


async def line_of_patiently(lanes: Lanes, key: str, count: int) -> None:
    """Return when so many wait there again, whatever is refused until then."""
    while True:
        with suppress(EngineUnavailable, OutcomeUnknown):
            await line_of(lanes, key, count)
            return


async def test_tokens_grow_though_the_clock_of_the_new_server_is_behind(pair: Pair) -> None:
    """By an hour; of lanes that were known, of whoever has one, and of one that is new."""
    async with a_worker(pair.url, lease=1.0) as a, a_worker(pair.url, lease=1.0) as b:
        gone = await a.hold("gone")
        await a.leave(gone.ticket, "gone")
        held = await a.hold()
        stranger = await connect(pair.primary.url)
        await stranger.execute(BEHIND.format(port=pair.standby.port))
        await stranger.close()
        await pair.is_copied()
        await asyncio.to_thread(pair.primary.crash)
        await asyncio.to_thread(pair.standby.promote)
        assert await patiently(lambda: a.engine.renew([Alive("k", held.ticket, held.token)])) == [held]
        waiting = {key: await b.stand(key) for key in ("k", "gone")}
        later = asyncio.create_task(renewing(b, waiting))
        again = await b.told(Granted, waiting["gone"])
        assert again.token > gone.token
        await b.leave(again.ticket, "gone")
        assert (await b.hold("gone")).token > again.token
        await a.leave(held.ticket)
        assert (await b.told(Granted, waiting["k"])).token > held.token
        later.cancel()
        await asyncio.wait([later])


async def renewing(worker: Worker, tickets: dict[str, str]) -> None:
    while True:
        for note in await worker.engine.renew([Alive(key, ticket) for key, ticket in tickets.items()]):
            worker.tell(note)
        await asyncio.sleep(0.2)  # a heartbeat: nobody is waited for


async def patiently(ask: Callable[[], Awaitable[list[Note]]]) -> list[Note]:
    """Return what is answered once there is a server again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(EngineUnavailable, OutcomeUnknown):
                return await ask()


async def test_behind_pgbouncer_it_is_said_that_nothing_is_heard(
    postgresql: PostgresqlDatabase, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for each worker, who looks for its notes; with a way past it, they are heard and nothing is said."""
    url = postgresql.new_url()
    caplog.set_level(logging.WARNING)
    async with pgbouncer_before(postgresql.url, tmp_path) as through:
        behind = f"{through}?{url.partition('?')[2]}"
        for options, said_so in (({}, 2), ({"listen_dsn": url}, 0)):
            caplog.clear()
            async with a_worker(behind, **options) as a, a_worker(behind, **options) as b:
                held = await a.hold()
                waiting = await b.stand()
                await a.leave(held.ticket)
                assert (await b.told(Granted, waiting)).token > held.token
                await b.leave(waiting)
            assert [record.message.split()[0] for record in caplog.records] == ["lanes_poll"] * said_so
            assert all(address_in(behind).where in record.message for record in caplog.records)
