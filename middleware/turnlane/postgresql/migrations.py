"""The schema: numbered files in `schema/`, each applied once, in order, by whoever comes first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from turnlane.postgresql.reasons import Refused
from turnlane.postgresql.transaction import Transaction

__all__ = ("LOCK", "Migration", "migrate", "migrations", "version_of")

OLDEST_SERVER = 13
LOCK = 0x54_4C_50_47
"""The first half of the advisory lock that whoever migrates holds until the end of the transaction."""

FILE = re.compile(r"(?P<version>[0-9]{4})_(?P<name>[a-z0-9_]+)\.sql")

# By the catalogue itself: what the server has cached of names may be older than the lock.
IS_THERE = """
    SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = $1 AND relname = 'migration'
"""
VERSION = "SELECT coalesce(max(version), 0) FROM {schema}.migration"
TAKE_LOCK = "SELECT pg_advisory_xact_lock($1::int, hashtext('{schema}'))"
ENCODING = "SELECT current_setting('server_encoding')"
SCHEMA_IS_THERE = "SELECT 1 FROM pg_namespace WHERE nspname = $1"
TABLES = """
    SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = $1 AND relkind IN ('r', 'p', 'v', 'm', 'f')
"""
CREATE_SCHEMA = "CREATE SCHEMA {schema}"
CREATE_TABLE = """
    CREATE TABLE {schema}.migration (
        version int NOT NULL PRIMARY KEY,
        name text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""
APPLIED = "INSERT INTO {schema}.migration (version, name) VALUES ($1, $2)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: its number, from 1, its name, and its statements, in which `{schema}` is the schema."""

    version: int
    name: str
    script: str


def migrations() -> tuple[Migration, ...]:
    """Read the steps this version of the package knows, in order. It reads files."""
    found: list[Migration] = []
    for file in resources.files("turnlane.postgresql").joinpath("schema").iterdir():
        named = FILE.fullmatch(file.name)
        if named is not None:
            found.append(Migration(int(named["version"]), named["name"], file.read_text("utf-8")))
    return tuple(sorted(found, key=lambda step: step.version))


async def version_of(transaction: Transaction, schema: str) -> int:
    """Return the version of the schema in the database; 0 where there is none."""
    if await transaction.row(IS_THERE, schema) is None:
        return 0
    found = await transaction.row(VERSION)
    return int(found[0]) if found is not None else 0


async def migrate(transaction: Transaction, schema: str, steps: Sequence[Migration]) -> None:
    """Apply the steps that are missing, all or none. Others who want to wait until the transaction ends.

    Raises:
        Refused: the schema is newer, or somebody else's, or the server is none to use.
    """
    await transaction.row(TAKE_LOCK, LOCK)
    version = await version_of(transaction, schema)
    require_known(version, steps)
    if version == 0:
        await _begin(transaction, schema)
    for step in steps:
        if step.version > version:
            await transaction.execute(step.script)
            await transaction.execute(APPLIED, step.version, step.name)


def require_known(version: int, steps: Sequence[Migration]) -> None:
    """Refuse a schema that a later version of this package has made.

    Raises:
        Refused: it is newer.
    """
    if version > len(steps):
        raise Refused(f"its schema has version {version}, this turnlane knows {len(steps)}: upgrade it")


async def _begin(transaction: Transaction, schema: str) -> None:
    if transaction.server_version < OLDEST_SERVER:
        raise Refused(f"the server is PostgreSQL {transaction.server_version}; {OLDEST_SERVER} is the oldest to use")
    encoding = await transaction.row(ENCODING)
    if encoding is None or encoding[0] != "UTF8":
        raise Refused(f"the database has the encoding {encoding and encoding[0]}; make one with UTF8")
    if await transaction.row(SCHEMA_IS_THERE, schema) is None:
        await transaction.execute(CREATE_SCHEMA)
    tables = await transaction.row(TABLES, schema)
    if tables is not None and tables[0]:
        raise Refused(f"the schema {schema!r} belongs to something else; name another: ?schema=...")
    await transaction.execute(CREATE_TABLE)
