"""Every store keeps the contract, and the suite that says so can fail."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.postgresql import PostgresqlDatabase
from support.transcripts_places import JsonlPlace, PostgresqlPlace, SqlitePlace
from turnlane.testing.transcript_store_suite import Check, TranscriptStoreSuite


def names(check: object) -> str:
    return getattr(check, "__name__", repr(check))


@pytest.mark.parametrize("check", TranscriptStoreSuite.checks, ids=names)
async def test_files_keep_the_contract(check: Check, tmp_path: Path) -> None:
    """Each promise holds for transcripts in a directory."""
    await TranscriptStoreSuite(lambda: JsonlPlace(tmp_path / "transcripts")).run(check)


@pytest.mark.parametrize("check", TranscriptStoreSuite.checks, ids=names)
async def test_a_database_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    """Each promise holds for transcripts in an SQLite file."""
    await TranscriptStoreSuite(lambda: SqlitePlace(tmp_path / "transcripts.db")).run(check)


@pytest.mark.parametrize("check", TranscriptStoreSuite.checks, ids=names)
async def test_a_database_server_keeps_the_contract(
    check: Check, postgresql: PostgresqlDatabase, lend: Callable[[], str]
) -> None:
    """Each promise holds for transcripts in PostgreSQL."""
    await TranscriptStoreSuite(lambda: PostgresqlPlace(postgresql, lend())).run(check)
