"""Transactions: what is run again, what is not, and what is said when nobody knows."""

import asyncio
import gc
import os
import sys
from collections.abc import Callable

import pytest

from support.postgresql import PostgresqlDatabase
from support.postgresql_proxy import Fault, a_proxy
from turnlane import Lanes, Sessions, Transcripts
from turnlane.errors import NotConfigured
from turnlane.postgresql import Database, Forked, Row, Transaction, Unavailable, Unsettled

COMMIT = b"COMMIT\0"
MAKE = "CREATE TABLE IF NOT EXISTS {schema}.t (n int)"


async def insert(transaction: Transaction) -> str:
    await transaction.execute("INSERT INTO {schema}.t VALUES ($1)", 1)
    return "inserted"


async def counted(transaction: Transaction) -> int:
    found = await transaction.row("SELECT count(*) FROM {schema}.t")
    assert found is not None
    return int(found[0])


async def table(transaction: Transaction) -> None:
    await transaction.execute(MAKE)


@pytest.mark.parametrize("text", [b"BEGIN", b"INSERT"])
@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_connection_lost_before_the_commit_is_made_up_for(
    fault: Fault, text: bytes, postgresql: PostgresqlDatabase
) -> None:
    """What was not committed did not happen: the job is run again, on another connection."""
    async with a_proxy(postgresql.new_url()) as proxy:
        database = Database(proxy.url)
        await database.write(table)
        proxy.fail(fault, text)
        assert await database.write(insert) == "inserted"
        assert proxy.happened.is_set()
        assert await database.read(counted) == 1
        await database.aclose()


async def test_a_server_that_goes_on_losing_connections_is_unavailable(postgresql: PostgresqlDatabase) -> None:
    """After a few attempts; what it was is told, without a password."""
    async with a_proxy(postgresql.new_url()) as proxy:
        database = Database(proxy.url)
        await database.write(table)
        proxy.fail("before", b"INSERT", times=100)
        with pytest.raises(Unavailable, match="connection"):
            await database.write(insert)
        assert proxy.times == 95
        proxy.times = 0
        assert await database.read(counted) == 0
        await database.aclose()


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_connection_lost_in_the_commit_is_told_as_unsettled(
    fault: Fault, postgresql: PostgresqlDatabase
) -> None:
    """The job is not run again, whether it was committed or not, and what it returned is in the error."""
    async with a_proxy(postgresql.new_url()) as proxy:
        database = Database(proxy.url)
        await database.write(table)
        proxy.fail(fault, COMMIT)
        with pytest.raises(Unsettled, match="while it was committed") as caught:
            await database.write(insert)
        assert caught.value.result == "inserted"
        assert await database.read(counted) == (fault == "after")
        await database.aclose()


@pytest.mark.parametrize("text", [b"INSERT", COMMIT], ids=repr)
async def test_a_server_that_does_not_answer_is_waited_for_in_bounded_time(
    text: bytes, postgresql: PostgresqlDatabase
) -> None:
    """No answer to a commit is not known to be none."""
    async with a_proxy(postgresql.new_url()) as proxy:
        database = Database(proxy.url)
        await database.write(table)
        await database.aclose()
        database = Database(proxy.url, timeout=0.5)
        await database.open()
        proxy.fail("hold", text)
        async with asyncio.timeout(10):
            with pytest.raises(Unsettled if text == COMMIT else Unavailable, match=r"no answer within 0\.5 s"):
                await database.write(insert)
        await database.aclose()


async def test_a_job_that_raises_leaves_nothing_and_its_error_goes_through(postgresql: PostgresqlDatabase) -> None:
    """Also an error that looks like one of the connection; the connection is used again."""
    async with a_proxy(postgresql.new_url()) as proxy:
        database = Database(proxy.url)
        await database.write(table)
        for error in (OSError("mine"), TimeoutError("mine"), ConnectionError("mine"), ValueError("mine")):

            async def refuse(transaction: Transaction, error: Exception = error) -> None:
                await insert(transaction)
                raise error

            with pytest.raises(type(error), match="mine") as caught:
                await database.write(refuse)
            assert caught.value is error
        assert await database.read(counted) == 0
        assert proxy.connections == 1
        await database.aclose()


async def test_an_error_that_a_job_passes_over_is_no_success(postgresql: PostgresqlDatabase) -> None:
    """The server has given the transaction up, whatever the job makes of it."""
    database = Database(postgresql.new_url())
    await database.write(table)

    async def careless(transaction: Transaction) -> None:
        await insert(transaction)
        with pytest.raises(Unavailable):
            await transaction.row("SELECT 1 / 0")

    with pytest.raises(Unavailable, match="ROLLBACK to COMMIT"):
        await database.write(careless)
    assert await database.read(counted) == 0
    await database.aclose()


async def test_a_deadlock_is_run_again(postgresql: PostgresqlDatabase) -> None:
    """Two transactions that take two rows in opposite orders both happen."""
    database = Database(postgresql.new_url())

    async def two_rows(transaction: Transaction) -> None:
        await transaction.execute("CREATE TABLE {schema}.t (n int, v int)")
        await transaction.execute("INSERT INTO {schema}.t VALUES (1, 0), (2, 0)")

    await database.write(two_rows)
    both = asyncio.Barrier(2)
    met = 0

    def adding(first: int, second: int) -> object:
        async def add(transaction: Transaction) -> None:
            nonlocal met
            await transaction.execute("SET LOCAL deadlock_timeout = 10")
            await transaction.execute("UPDATE {schema}.t SET v = v + 1 WHERE n = $1", first)
            if met < 2:
                met += 1
                await both.wait()
            await transaction.execute("UPDATE {schema}.t SET v = v + 1 WHERE n = $1", second)

        return database.write(add)

    await asyncio.gather(adding(1, 2), adding(2, 1))  # type: ignore[call-overload]

    async def values(transaction: Transaction) -> list[int]:
        return [row[0] for row in await transaction.rows("SELECT v FROM {schema}.t")]

    assert await database.read(values) == [2, 2]
    await database.aclose()


async def test_a_lock_of_others_is_told(postgresql: PostgresqlDatabase) -> None:
    """Whoever waits for a row says so when its time is over; nobody else waits."""
    url = postgresql.new_url()
    database, impatient = Database(url), Database(url, timeout=0.4)
    await database.write(table)
    await database.write(insert)
    await impatient.open()

    async def locked(transaction: Transaction) -> Row | None:
        return await transaction.row("SELECT n FROM {schema}.t FOR UPDATE")

    async def hold(transaction: Transaction) -> None:
        await locked(transaction)
        with pytest.raises(Unavailable, match="another session kept it locked"):
            await impatient.write(locked)
        assert await impatient.read(counted) == 1

    await database.write(hold)
    assert await impatient.write(locked) is not None
    await asyncio.gather(database.aclose(), impatient.aclose())


async def test_terminated_connections_are_replaced(postgresql: PostgresqlDatabase) -> None:
    """All that a pool holds are ended while they lie idle; nobody hears of it."""
    database = Database(postgresql.new_url())
    await database.write(table)
    for _ in range(3):
        await asyncio.gather(*(database.write(insert) for _ in range(5)))
        assert await asyncio.to_thread(postgresql.terminate_others) >= 1
    assert await database.read(counted) == 15
    await database.aclose()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://nobody:secret@127.0.0.1:1/none", "can not be reached"),
        ("postgresql:///none?host=/nonexistent", "can not be reached"),
    ],
)
async def test_a_server_that_is_not_there_is_unavailable(url: str, reason: str) -> None:
    """At once, and without the password."""
    database = Database(url)
    with pytest.raises(Unavailable, match=reason) as caught:
        await database.open()
    assert "secret" not in str(caught.value)
    await database.aclose()


async def test_a_database_that_is_not_there_is_unavailable(postgresql: PostgresqlDatabase) -> None:
    """The server's own words are told."""
    database = Database(f"{postgresql.url}_not")
    with pytest.raises(Unavailable, match="no such database"):
        await database.open()
    await database.aclose()


@pytest.mark.parametrize("make", [Database, Lanes, Sessions, Transcripts])
def test_without_the_driver_it_says_what_to_install(
    make: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is made, and not in the first turn."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(NotConfigured, match=r"^postgresql://me@host/db needs .*pip install 'turnlane\[postgresql\]'$"):
        make("postgresql://me:s3cret@host/db")


def test_each_event_loop_has_connections_of_its_own(postgresql: PostgresqlDatabase) -> None:
    """One after the other, without closing; nothing is left of a loop that has ended, and no warning."""
    database = Database(postgresql.new_url())
    for number in range(3):
        asyncio.run(database.write(table))
        assert asyncio.run(database.write(insert)) == "inserted"
        assert asyncio.run(database.read(counted)) == number + 1
        assert not database.is_open
        gc.collect()
    assert "not open" in repr(database)


async def test_loops_of_threads_share_a_database(postgresql: PostgresqlDatabase) -> None:
    """At the same time; closing in one closes what the others have."""
    database = Database(postgresql.new_url())
    await database.write(table)
    await asyncio.gather(*(asyncio.to_thread(lambda: asyncio.run(database.write(insert))) for _ in range(4)))
    assert await database.read(counted) == 4
    await database.aclose()
    await database.aclose()
    assert not database.is_open
    assert await database.read(counted) == 4
    await database.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_forked_child_is_told_and_the_parent_goes_on(postgresql: PostgresqlDatabase) -> None:
    """The child neither uses nor closes what it inherited."""
    database = Database(postgresql.new_url())
    await database.write(table)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with pytest.raises(Forked):
                asyncio.run(database.open())
            with pytest.raises(Forked):
                asyncio.run(database.read(counted))
            asyncio.run(database.aclose())
            status = 0
        finally:
            os._exit(status)
    _, ended = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(ended) == 0
    assert await database.write(insert) == "inserted"
    await database.aclose()


async def test_a_job_that_is_cancelled_leaves_nothing(postgresql: PostgresqlDatabase) -> None:
    """Its connection is given up, and its locks with it."""
    database = Database(postgresql.new_url(), pool_size=2)
    await database.write(table)
    inside = asyncio.Event()

    async def stand_still(transaction: Transaction) -> None:
        await insert(transaction)
        inside.set()
        await transaction.row("SELECT pg_sleep(60)")

    for _ in range(4):
        task = asyncio.ensure_future(database.write(stand_still))
        await inside.wait()
        inside.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await database.read(counted) == 0
    await database.aclose()
