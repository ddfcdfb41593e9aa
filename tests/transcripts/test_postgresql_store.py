"""What transcripts in PostgreSQL promise beyond the contract: unknown outcomes, edits by SQL, the lease."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from support.postgresql import PostgresqlDatabase
from support.postgresql_proxy import Fault, Proxy, a_proxy
from support.transcripts_places import PostgresqlPlace
from support.transcripts_scenes import said, user
from turnlane.errors import StaleTurn, TranscriptBusy, TranscriptTakeover, TranscriptUnavailable
from turnlane.hooks import Hooks, TranscriptAdopted
from turnlane.postgresql import Transaction
from turnlane.transcripts import PostgresqlTranscriptStore, Transcripts
from turnlane.transcripts.contract import Author
from turnlane.transcripts.entries import encoded
from turnlane.transcripts.postgresql_handle import PostgresqlHandle
from turnlane.transcripts.postgresql_tables import Tables

COMMIT = b"COMMIT\0"
NOBODY = Author()


@pytest.fixture
def server(postgresql: PostgresqlDatabase, lend: Callable[[], str]) -> PostgresqlPlace:
    """A schema, and somebody else's hand in it."""
    return PostgresqlPlace(postgresql, lend())


@asynccontextmanager
async def opened(url: str, session_id: str = "a") -> AsyncGenerator[PostgresqlHandle, None]:
    store = PostgresqlTranscriptStore(url, trace_turns=True)
    handle = await store.attach(session_id)
    await handle.lock(10)
    await handle.load(NOBODY, adopt=True)
    yield handle
    await handle.aclose()
    await store.aclose()


def texts(place: PostgresqlPlace) -> list[str]:
    """What a stranger reads."""
    rows = place.database.rows(f"SELECT line::json->>'content' FROM {place.schema}.entry WHERE life = 1 ORDER BY seq")
    return [row[0] for row in rows]


# -- outcomes


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_an_append_that_nobody_answered_is_stored_once(fault: Fault, server: PostgresqlPlace) -> None:
    """Whether it was committed or not; the fence moves along, and the mark of the rows too."""
    async with a_proxy(server.url) as proxy, opened(proxy.url) as handle:
        await handle.append(encoded([user("one")]), NOBODY)
        proxy.fail(fault, COMMIT)
        await handle.append(encoded([user("two"), user("three")]), NOBODY)
        assert proxy.happened.is_set()
        await handle.append(encoded([user("four")]), NOBODY)
        assert (await handle.prove(NOBODY, content=True)).entries == ()
        assert texts(server) == ["one", "two", "three", "four"]


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_taking_away_that_nobody_answered_is_done_once(fault: Fault, server: PostgresqlPlace) -> None:
    """Going back, taking a turn out, deleting: what was taken away is told, and no more is."""
    kept: list[bytes] = []

    async def keep(lines: Sequence[bytes]) -> None:
        kept.extend(lines)

    async with a_proxy(server.url) as proxy, opened(proxy.url) as handle:
        await handle.append(encoded([user("one")]), NOBODY)
        fence = handle.fence
        await handle.append(encoded([user("two")]), NOBODY)
        proxy.fail(fault, COMMIT, spare=1)  # that of the read
        assert len(await handle.rollback(fence, NOBODY, keep=keep)) == 1
        assert proxy.happened.is_set()
        turn = Author(turn="T", token=5)
        await handle.append(encoded([user("of the turn")]), turn)
        proxy.fail(fault, COMMIT, spare=1)
        assert len(await handle.take_out("T", Author(turn="S", token=6), keep=keep)) == 1
        assert proxy.happened.is_set()
        assert texts(server) == ["one"]
        assert len(kept) == 2
        proxy.fail(fault, COMMIT)
        await handle.delete(NOBODY, at=1.0)
        assert proxy.happened.is_set()
        assert server.database.rows(f"SELECT life, present FROM {server.schema}.transcript") == [(2, False)]
        assert server.database.rows(f"SELECT life FROM {server.schema}.tombstone") == [(1,)]


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("edited", [False, True])
async def test_opening_that_nobody_answered_opens(fault: Fault, edited: bool, server: PostgresqlPlace) -> None:
    """Beginning, and adopting what somebody has stored."""
    if edited:
        server.append("a", b'{"content":"foreign"}')
    async with a_proxy(server.url) as proxy:
        store = PostgresqlTranscriptStore(proxy.url)
        handle = await store.attach("a")
        await handle.lock(10)
        proxy.fail(fault, COMMIT, spare=1)
        entries, finding = await handle.load(NOBODY, adopt=True)
        assert proxy.happened.is_set()
        assert (len(entries), finding is not None) == (int(edited), edited)
        await handle.append(encoded([user("one")]), NOBODY)
        assert (await handle.prove(NOBODY, content=True)).entries == ()
        await handle.aclose()
        await store.aclose()


async def test_salvage_that_nobody_answered_is_kept_once(server: PostgresqlPlace) -> None:
    """Doing it again finds what was kept."""
    async with a_proxy(server.url) as proxy:
        store = PostgresqlTranscriptStore(proxy.url)
        await store.list()
        proxy.fail("after", COMMIT)
        await store.salvage("a", encoded([user("one"), user("two")]), Author(turn="\0\ud800"), reason="\0")
        assert proxy.happened.is_set()
        assert len(server.salvaged("a")) == 2
        await store.aclose()


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_the_end_of_a_turn_that_nobody_answered_is_noted(fault: Fault, server: PostgresqlPlace) -> None:
    """Doing it again comes to the same; it is asked to be on the disk, whatever the server is set to."""
    async with a_proxy(server.url) as proxy, Transcripts(proxy.url, trace_turns=True) as transcripts:
        for spare, text in ((1, COMMIT), (0, b"set_config('synchronous_commit'")):  # the first one is that of a read
            async with transcripts.open("a", token=5, turn="T\0") as transcript:
                transcript.live = True
                await transcript.append(user("one"))
            proxy.fail(fault, text, spare=spare)
            await transcripts.store.end_turn("a", Author(turn="T\0", token=5))
            assert proxy.happened.is_set()
            assert await transcripts.store.unended("a") is None


async def test_the_end_of_a_turn_that_meets_a_write_of_another_says_nothing_of_that(server: PostgresqlPlace) -> None:
    """It waits for the row that says what is owned, and finds another turn in it."""
    database, head = server.database, f"SELECT 1 FROM {server.schema}.transcript FOR UPDATE"
    async with Transcripts(server.url, trace_turns=True) as transcripts:
        store = transcripts.store
        async with transcripts.open("a", token=5, turn="T") as transcript:
            transcript.live = True
            await transcript.append(user("one"))
        await database.aexecute(f"BEGIN; {head}")
        ending = asyncio.ensure_future(store.end_turn("a", Author(turn="T", token=5)))
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(database.rows, waiting):  # noqa: ASYNC110  the server tells nobody
                await asyncio.sleep(0.01)
        await database.aexecute(f"UPDATE {server.schema}.transcript SET unended = 'S'; COMMIT")
        await ending
        assert await store.unended("a") == "S"


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_turn_goes_on_after_an_outcome_that_was_not_known(fault: Fault, server: PostgresqlPlace) -> None:
    """The server could not be asked at once: the words are salvaged, the error says why, and nothing is foreign."""
    async with a_proxy(server.url) as proxy, Transcripts(proxy.url) as transcripts:
        async with transcripts.open("a", token=5, turn="T") as transcript:
            await transcript.append(user("one"))
            proxy.fail(fault, COMMIT, times=20)
            with pytest.raises(TranscriptUnavailable, match="it may have happened"):
                await transcript.append(user("two"))
            proxy.times = 0
            await transcript.append(user("three"))
            async with transcript.released() as prompt:
                prompt.stage(user("four"))
        assert texts(server) == ["one", *(["two"] if fault == "after" else []), "three", "four"]


# -- edits


def by_update(place: PostgresqlPlace) -> None:
    place.edit("a", 0, b'{"content":"edited"}')


def by_digest(place: PostgresqlPlace) -> None:
    place.database.execute(f"UPDATE {place.schema}.entry SET digest = NULL WHERE seq = 1")


def by_insert(place: PostgresqlPlace) -> None:
    place.append("a", b'{"content":"foreign"}')


def by_delete(place: PostgresqlPlace) -> None:
    place.truncate("a", 2)


def by_number(place: PostgresqlPlace) -> None:
    place.database.execute(f"UPDATE {place.schema}.entry SET seq = 0 WHERE seq = 1")


def by_exchange(place: PostgresqlPlace) -> None:
    place.database.execute(
        f"DELETE FROM {place.schema}.entry WHERE seq = 2; "
        f"INSERT INTO {place.schema}.entry (session_id, seq, line) VALUES ('a', 2, '{{\"content\":\"other\"}}')"
    )


def by_truncate(place: PostgresqlPlace) -> None:
    place.database.execute(f"TRUNCATE {place.schema}.entry")


def by_record(place: PostgresqlPlace) -> None:
    place.database.execute(f"DELETE FROM {place.schema}.transcript")


def by_forged_record(place: PostgresqlPlace) -> None:
    place.database.execute(f"UPDATE {place.schema}.transcript SET adopted = adopted + 1")


EDITS = [by_update, by_digest, by_insert, by_delete, by_number, by_exchange, by_truncate, by_record, by_forged_record]


@pytest.mark.parametrize("verify_up_to", [4 << 20, 0])
@pytest.mark.parametrize("edit", EDITS)
async def test_an_edit_by_sql_is_a_takeover(
    edit: Callable[[PostgresqlPlace], None], verify_up_to: int, server: PostgresqlPlace
) -> None:
    """Made during a release, whatever the size; the staged words are salvaged, and nothing is stored."""
    async with Transcripts(server.url, verify_up_to=verify_up_to) as transcripts:
        with pytest.raises(TranscriptTakeover) as caught:
            async with transcripts.open("a") as transcript:
                await transcript.append(user("one"), user("two"), user("three"))
                async with transcript.released() as prompt:
                    prompt.stage(user("staged"))
                    edit(server)
        assert caught.value.phase == "return"
        assert b"staged" in server.salvaged("a")[0]
        assert "staged" not in texts(server)


@pytest.mark.parametrize("edit", EDITS)
async def test_an_edit_between_turns_is_told_and_adopted(
    edit: Callable[[PostgresqlPlace], None], server: PostgresqlPlace
) -> None:
    """Once, however the rows are numbered now; afterwards what is there is owned."""
    hooks, told = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, told.append)
    async with Transcripts(server.url, hooks=hooks) as transcripts:
        async with transcripts.open("a") as transcript:
            await transcript.append(user("one"), user("two"), user("three"))
        edit(server)
        async with transcripts.open("a"):
            pass
        assert len(told) == (0 if edit is by_forged_record else 1)
        async with transcripts.open("a", at_open="raise") as transcript:
            await transcript.append(user("four"))
        assert texts(server)[-1] == "four"
        assert len(told) <= 1


async def test_rows_that_were_written_again_as_they_were_are_no_edit(server: PostgresqlPlace) -> None:
    """Their stamp is another one, their content is not."""
    async with Transcripts(server.url) as transcripts, transcripts.open("a") as transcript:
        await transcript.append(user("one"))
        async with transcript.released() as prompt:
            await server.database.aexecute(f"UPDATE {server.schema}.entry SET line = line")
            prompt.stage(user("two"))
        await transcript.append(user("three"))
    assert texts(server) == ["one", "two", "three"]


async def test_a_write_of_somebody_that_is_under_way_is_found_when_it_is_committed(server: PostgresqlPlace) -> None:
    """Its transaction is older than ours, so its number is lower than those of the rows it changes."""
    database = server.database
    async with Transcripts(server.url) as transcripts:
        with pytest.raises(TranscriptTakeover):
            async with transcripts.open("a") as transcript:
                await database.aexecute("BEGIN; SELECT pg_current_xact_id()")
                await transcript.append(user("one"))
                async with transcript.released():
                    await database.aexecute(f"UPDATE {server.schema}.entry SET line = '{{}}'")
                async with transcript.released():
                    await database.aexecute("COMMIT")


async def test_what_nobody_else_has_changed_is_not_read_again(
    server: PostgresqlPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By releases, returns and appends, where the changes are owned: only what is new is."""
    read: list[int] = []
    all_rows = Tables.all_rows

    async def counted(tables: Tables, life: int) -> object:
        read.append(life)
        return await all_rows(tables, life)

    async with Transcripts(server.url) as transcripts, Transcripts(server.url) as others:
        async with transcripts.open("a") as transcript:
            await transcript.append(*(user(str(number)) for number in range(50)))
            async with transcript.released():
                await others.append("a", user("of others"))  # who reads it once, and only what is new from then on
            monkeypatch.setattr(Tables, "all_rows", counted)
            for number in range(3):
                async with transcript.released() as prompt:
                    await transcripts.append("a", user("short"))
                    await others.append("a", user("of others"))
                    prompt.stage(user(f"reply {number}"))
        await transcripts.append("a", user("short"))
    assert read == []


# -- the lease


async def test_an_open_transcript_holds_no_connection_and_no_lock(server: PostgresqlPlace) -> None:
    """Neither while it is written to nor during a release: only a row says that it is open, and that not always."""
    busy = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' "
        "AND pid <> pg_backend_pid()"
    )
    leases = f"SELECT count(*) FROM {server.schema}.transcript_lease"
    async with Transcripts(server.url) as transcripts:
        async with transcripts.open("a") as transcript:
            await transcript.append(user("one"))
            assert (server.database.rows(busy)[0][0], server.database.rows(leases)[0][0]) == (0, 1)
            async with transcript.released():
                assert (server.database.rows(busy)[0][0], server.database.rows(leases)[0][0]) == (0, 0)
        assert server.database.rows(leases)[0][0] == 0


def expire(server: PostgresqlPlace) -> None:
    """Have the time of all leases be over, as if their holders had stood still."""
    server.database.execute(f"UPDATE {server.schema}.transcript_lease SET until = clock_timestamp()")


@pytest.mark.parametrize("token", [None, 6])
async def test_who_stood_still_for_too_long_is_refused(token: int | None, server: PostgresqlPlace) -> None:
    """Another has the lock, and has written or not: what the first one writes is refused and salvaged."""
    async with Transcripts(server.url) as first, Transcripts(server.url) as second:
        async with first.open("a", token=5, turn="T") as transcript:
            await transcript.append(user("one"))
            expire(server)
            async with second.open("a", token=token, turn="S") as other:
                with pytest.raises(TranscriptUnavailable, match="its write lock has gone to another"):
                    await transcript.append(user("two"))
                await other.append(user("three"))
                with pytest.raises((TranscriptUnavailable, StaleTurn)):
                    await transcript.append(user("four"))
        assert texts(server) == ["one", "three"]
        assert len(server.salvaged("a")) == 2


async def test_locks_that_a_crash_of_the_server_has_forgotten_do_not_matter(server: PostgresqlPlace) -> None:
    """Two have the lock: whoever writes second is refused until it has proven what the other did."""
    async with opened(server.url) as first:
        await first.append(encoded([user("one")]), NOBODY)
        await server.database.aexecute(f"TRUNCATE {server.schema}.transcript_lease")
        async with opened(server.url) as second:
            await second.append(encoded([user("two")]), NOBODY)
        with pytest.raises(TranscriptUnavailable, match="somebody wrote it without its lock"):
            await first.append(encoded([user("three")]), NOBODY)
        assert said((await first.prove(NOBODY, content=True)).entries) == ["two"]
        await first.append(encoded([user("three")]), NOBODY)
    assert texts(server) == ["one", "two", "three"]


async def test_a_lock_that_is_held_is_renewed(server: PostgresqlPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its time is over, and not by anybody who has let it go."""
    monkeypatch.setattr("turnlane.transcripts.postgresql_lease.RENEWED_AFTER", 0.05)
    until = f"SELECT until FROM {server.schema}.transcript_lease"
    async with Transcripts(server.url) as transcripts:
        async with transcripts.open("a"):
            first = server.database.rows(until)[0][0]
            async with asyncio.timeout(10):
                while server.database.rows(until)[0][0] == first:  # noqa: ASYNC110  the server tells nobody
                    await asyncio.sleep(0.01)
        assert server.database.rows(until) == []
    assert len(asyncio.all_tasks()) == 1


async def test_a_lock_of_before_the_clock_was_set_back_ends(
    server: PostgresqlPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as any other, where its holder has died; one that lives keeps it."""
    monkeypatch.setattr("turnlane.transcripts.postgresql_lease.LASTS", 0.5)
    monkeypatch.setattr("turnlane.transcripts.postgresql_lease.RENEWED_AFTER", 0.1)
    later = f"UPDATE {server.schema}.transcript_lease SET until = until + interval '1 hour'"
    async with Transcripts(server.url, lock_timeout=5) as first, Transcripts(server.url, lock_timeout=1) as second:
        async with first.open("a") as transcript:
            server.database.execute(later)
            with pytest.raises(TranscriptBusy):
                await second.append("a", user("two"))
            await transcript.append(user("one"))
            server.database.execute(later + ", holder = gen_random_uuid()")
        await first.append("a", user("three"))
    assert texts(server) == ["one", "three"]


# -- the rest


async def test_nothing_blocks_the_event_loop(server: PostgresqlPlace) -> None:
    """Opening, writing, releasing, deleting and sweeping make no blocking call but for the driver's files."""
    with blockbuster_ctx() as detector:
        for looked_for in ("os.stat", "os.path.abspath"):
            detector.functions[looked_for].deactivate()
        async with Transcripts(server.url, trace_turns=True) as transcripts:
            async with transcripts.open("a", token=5, turn="T") as transcript:
                await transcript.append(user("x" * 100_000))
                async with transcript.released() as prompt:
                    prompt.stage(user("two"))
            await transcripts.take_out("a", "T", token=6, turn="S")
            await transcripts.delete("a")
            await transcripts.sweep()


async def test_arguments_that_are_for_files_are_refused(tmp_path: Path, server: PostgresqlPlace) -> None:
    """And a URL that is not understood is not shown."""
    with pytest.raises(ValueError, match="state_dir= is for files"):
        Transcripts(server.url, state_dir=tmp_path)
    with pytest.raises(ValueError, match="names no store") as caught:
        Transcripts("postgresql+asyncpg://user:s3cret@host/db")
    assert "s3cret" not in str(caught.value)


async def test_words_are_on_the_disk_where_that_was_asked_for(server: PostgresqlPlace) -> None:
    """Also where the server is set up not to wait for it."""
    settings: list[str] = []

    async with Transcripts(server.url, durability="power") as transcripts:
        await transcripts.append("a", user("one"))
        store = transcripts.store
        assert isinstance(store, PostgresqlTranscriptStore)

        async def look(transaction: Transaction) -> None:
            row = await transaction.row("SHOW synchronous_commit")
            assert row is not None
            settings.append(row[0])

        for durable in (True, None, False):
            await store._database.write(look, durable=durable)  # pyright: ignore[reportPrivateUsage]
        assert store._durable is True  # pyright: ignore[reportPrivateUsage]
    assert settings[0] == "on"
    assert settings[2] == "off"
    assert said(await Transcripts(server.url).read("a")) == ["one"]


def test_a_proxy_is_what_it_says(server: PostgresqlPlace) -> None:
    """Its URL keeps the schema."""
    assert server.schema in Proxy(server.url).url
