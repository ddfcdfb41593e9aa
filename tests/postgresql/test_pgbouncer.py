"""Everything holds through a proxy that gives each transaction another connection."""

import asyncio
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from support.postgresql import PostgresqlDatabase
from support.postgresql_pgbouncer import pgbouncer_before
from support.transcripts_places import PostgresqlPlace
from support.transcripts_scenes import said, user
from turnlane.errors import SessionConflict
from turnlane.postgresql import Database, Transaction, address_in
from turnlane.sessions import PostgresqlSessionStore, Sessions
from turnlane.testing import session_store_suite
from turnlane.testing.transcript_store_suite import TranscriptStoreSuite
from turnlane.transcripts import PostgresqlTranscriptStore, Transcripts, TranscriptStore


class Behind(PostgresqlPlace):
    """A place whose stores go through the proxy; the stranger does not."""

    through = ""

    def make_store(self) -> TranscriptStore:
        return PostgresqlTranscriptStore(f"{self.through}?schema={self.schema}")


@pytest.mark.stress
@pytest.mark.timeout(120)
async def test_stores_keep_their_contracts_behind_pgbouncer(
    postgresql: PostgresqlDatabase, tmp_path: Path, long_form: bool
) -> None:
    """In transaction mode, with more clients than connections: no statement of one is answered for another."""
    async with pgbouncer_before(postgresql.url, tmp_path) as through:
        for check in session_store_suite.CHECKS:
            with postgresql.lender() as lend:
                async with PostgresqlSessionStore(f"{through}?schema={address_in(lend()).schema}") as store:
                    await check(store)
        place = type("Bounced", (Behind,), {"through": through})
        for transcript_check in TranscriptStoreSuite.checks[:: 1 if long_form else 4]:
            with postgresql.lender() as lend:
                await TranscriptStoreSuite(partial(place, postgresql, lend())).run(transcript_check)


@pytest.mark.stress
@pytest.mark.timeout(120)
async def test_statements_of_many_clients_are_not_mixed_up(postgresql: PostgresqlDatabase, tmp_path: Path) -> None:
    """Different statements at once on three connections: each gets its own answer; counters and words are whole."""
    async with pgbouncer_before(postgresql.url, tmp_path) as through:
        databases = [Database(f"{through}?schema=mixed", pool_size=4) for _ in range(5)]

        async def ask(database: Database, number: int) -> None:
            async def job(transaction: Transaction) -> None:
                for extra in range(3):
                    row = await transaction.row(f"SELECT $1::int + {number}, $2::text", extra, str(number))
                    assert row is not None
                    assert tuple(row) == (extra + number, str(number))

            await (database.read if number % 2 else database.write)(job)

        await databases[0].open()
        await asyncio.gather(*(ask(databases[number % 5], number) for number in range(200)))
        await asyncio.gather(*(database.aclose() for database in databases))

        url, counts = f"{through}?schema=mixed", Counter[str]()
        async with Sessions(url) as sessions, Transcripts(url) as transcripts:

            async def work(name: int) -> None:
                for number in range(5):
                    session = await sessions.resolve("k")
                    await transcripts.append(session.id, user(f"{name}-{number}"))
                    try:
                        found = session.fields.get("n", 0)
                        assert isinstance(found, int)
                        await sessions.patch("k", {"n": found + 1}, expected_version=session.version)
                        counts["n"] += 1
                    except SessionConflict:
                        pass

            await asyncio.gather(*(work(name) for name in range(10)))
            session = await sessions.resolve("k")
            assert session.fields["n"] == counts["n"]
            read = said(await transcripts.read(session.id))
            assert sorted(read) == sorted(f"{name}-{number}" for name in range(10) for number in range(5))
