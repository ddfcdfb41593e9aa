"""The schema: who makes it, when, and what is not touched."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.postgresql import PostgresqlDatabase, a_database
from turnlane.errors import SessionStoreUnavailable
from turnlane.postgresql import Database, PostgresqlError, Refused
from turnlane.postgresql.migrations import migrations
from turnlane.postgresql.urls import address_in
from turnlane.sessions import Sessions

COLUMNS = """
    SELECT relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull, collname,
           pg_get_expr(adbin, adrelid), relpersistence, reloptions
    FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_attribute ON attrelid = pg_class.oid
    LEFT JOIN pg_collation ON pg_collation.oid = attcollation
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE nspname = $1 AND attnum > 0 AND NOT attisdropped ORDER BY relname, attnum
"""
CONSTRAINTS = """
    SELECT conrelid::regclass, conname, pg_get_constraintdef(pg_constraint.oid) FROM pg_constraint
    JOIN pg_namespace n ON n.oid = connamespace WHERE nspname = $1 ORDER BY 1, 2
"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = $1 ORDER BY indexname"
FUNCTIONS = """
    SELECT proname, pg_get_functiondef(pg_proc.oid) FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace
    WHERE nspname = $1 ORDER BY proname
"""
EXPECTED = Path(__file__).with_name("schema.txt")


def schema_of(url: str) -> str:
    return address_in(url).schema


def described(postgresql: PostgresqlDatabase, schema: str) -> str:
    """Return all that is in a schema, a line for each column, constraint, index and function."""
    lines = [
        " ".join(str(value) for value in row)
        for query in (COLUMNS, CONSTRAINTS, INDEXES, FUNCTIONS)
        for row in postgresql.rows(query, schema)
    ]
    return "\n".join(lines).replace(f'"{schema}".', "").replace(f"{schema}.", "").replace(f"'{schema}'", "'...'") + "\n"


def apply(postgresql: PostgresqlDatabase, schema: str, *, up_to: int) -> None:
    """Make a schema as an earlier version of the package has done."""
    postgresql.execute(
        f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.migration "
        "(version int NOT NULL PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    for step in migrations()[:up_to]:
        postgresql.execute(step.script.replace("{schema}", schema))
        postgresql.execute(f"INSERT INTO {schema}.migration (version, name) VALUES ($1, $2)", step.version, step.name)


def test_the_migrations_are_numbered_without_a_gap() -> None:
    """From 1; the version of a schema is their number."""
    steps = migrations()
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))
    assert len({step.name for step in steps}) == len(steps)


async def test_the_schema_is_what_the_migrations_make(postgresql: PostgresqlDatabase) -> None:
    """From nothing, and from each earlier version; and it is the one that is written down: what is applied stays."""
    found: list[str] = []
    for version in range(len(migrations()) + 1):
        url = postgresql.new_url()
        if version:
            apply(postgresql, schema_of(url), up_to=version)
        database = Database(url)
        await database.open()
        await database.aclose()
        found.append(described(postgresql, schema_of(url)))
        applied = postgresql.rows(f"SELECT version, name FROM {schema_of(url)}.migration ORDER BY version")
        assert [tuple(row) for row in applied] == [(step.version, step.name) for step in migrations()]
    assert set(found) == {EXPECTED.read_text("utf-8")}


async def test_many_can_start_at_once(postgresql: PostgresqlDatabase) -> None:
    """Each with connections of its own; the steps are applied once."""
    for _ in range(5):
        databases = [Database(url) for url in [postgresql.new_url()] * 6]
        await asyncio.gather(*(database.open() for database in databases))
        schema = databases[0].schema
        assert len(postgresql.rows(f"SELECT version FROM {schema}.migration")) == len(migrations())
        await asyncio.gather(*(database.aclose() for database in databases))


def test_many_processes_can_start_at_once(postgresql: PostgresqlDatabase) -> None:
    """All of them find the same session."""
    url = postgresql.new_url()
    code = (
        "import asyncio, sys; from turnlane.sessions import Sessions; sys.stdin.readline(); "
        "print(asyncio.run(Sessions(sys.argv[1]).resolve('k')).id)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = {process.communicate(timeout=30)[0].strip() for process in started}
    assert len(answers) == 1
    assert answers != {""}


async def refusal_of(url: str) -> str:
    database = Database(url)
    try:
        with pytest.raises(Refused) as caught:
            await database.open()
        return caught.value.reason
    finally:
        await database.aclose()


async def test_a_newer_schema_is_refused(postgresql: PostgresqlDatabase) -> None:
    """Both versions are named, and nothing is written."""
    url = postgresql.new_url()
    apply(postgresql, schema_of(url), up_to=len(migrations()))
    newer = len(migrations()) + 1
    postgresql.execute(f"INSERT INTO {schema_of(url)}.migration VALUES ($1, 'later')", newer)
    assert f"its schema has version {newer}, this turnlane knows {newer - 1}: upgrade it" in await refusal_of(url)
    with pytest.raises(SessionStoreUnavailable, match="upgrade it") as caught:
        await Sessions(url).resolve("k")
    assert caught.value.operation == "open"


async def test_a_schema_of_something_else_is_refused(postgresql: PostgresqlDatabase) -> None:
    """One with tables, that is; an empty one is used."""
    url, empty = postgresql.new_url(), postgresql.new_url()
    postgresql.execute(f"CREATE SCHEMA {schema_of(url)}; CREATE VIEW {schema_of(url)}.mine AS SELECT 1")
    assert "belongs to something else" in await refusal_of(url)
    postgresql.execute(f"CREATE SCHEMA {schema_of(empty)}")
    database = Database(empty)
    await database.open()
    await database.aclose()


async def test_a_step_that_fails_leaves_the_schema_as_it_was(postgresql: PostgresqlDatabase) -> None:
    """All steps are one transaction; when what was in the way is gone, it goes on."""
    url = postgresql.new_url()
    schema = schema_of(url)
    apply(postgresql, schema, up_to=1)
    before = described(postgresql, schema)
    postgresql.execute(f"CREATE TABLE {schema}.salvage (mine int)")
    database = Database(url)
    with pytest.raises(PostgresqlError, match="already exists"):
        await database.open()
    postgresql.execute(f"DROP TABLE {schema}.salvage")
    assert described(postgresql, schema) == before
    await database.open()
    await database.aclose()


@pytest.fixture
def role(postgresql: PostgresqlDatabase) -> Iterator[str]:
    """A user who may do nothing but connect."""
    name = f"turnlane_test_{uuid.uuid4().hex[:8]}"
    postgresql.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'nothing'")
    yield name
    postgresql.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_a_user_without_rights_is_told_what_is_missing(postgresql: PostgresqlDatabase, role: str) -> None:
    """To make the schema, to use it, to change it; who may use it needs no right to make one."""
    url = postgresql.new_url()
    schema, poor = schema_of(url), url.replace("postgres@", f"{role}:nothing@")
    assert f"make or change the schema '{schema}'" in await refusal_of(poor)
    apply(postgresql, schema, up_to=1)
    assert "42501" in await refusal_of(poor)
    postgresql.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {schema}.migration TO {role}")
    assert f"make or change the schema '{schema}'" in await refusal_of(poor)
    owner = Database(url)
    await owner.open()
    await owner.aclose()
    async with Sessions(poor) as sessions:
        with pytest.raises(SessionStoreUnavailable, match="lacks the right") as caught:
            await sessions.resolve("k")
        postgresql.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}")
        assert (await sessions.resolve("k")).is_new
    assert "nothing" not in str(caught.value)


async def test_a_database_that_can_not_hold_all_text_is_refused() -> None:
    """Any encoding but UTF8."""
    with a_database(encoding="LATIN1") as other:
        assert "encoding LATIN1; make one with UTF8" in await refusal_of(other.url)


async def test_a_schema_that_was_dropped_is_made_anew(postgresql: PostgresqlDatabase) -> None:
    """The call that finds it gone says so, the next one makes it."""
    url = postgresql.new_url()
    async with Sessions(url) as sessions:
        before = await sessions.resolve("k")
        await postgresql.aexecute(f"DROP SCHEMA {schema_of(url)} CASCADE")
        with pytest.raises(SessionStoreUnavailable, match="the next call makes"):
            await sessions.resolve("k")
        assert (await sessions.resolve("k")).id != before.id
