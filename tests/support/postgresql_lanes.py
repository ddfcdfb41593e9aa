"""Workers of an engine in PostgreSQL that tests reach into."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from turnlane import Lanes
from turnlane.engines.postgresql import PostgresqlEngine
from turnlane.lanes.shared import SharedGate
from turnlane.testing.engine_suite import Worker

__all__ = ("a_worker", "engine_of")


@asynccontextmanager
async def a_worker(url: str, **options: Any) -> AsyncGenerator[Worker, None]:
    """Open an engine of this process for a block."""
    worker = Worker(PostgresqlEngine(url, **options))
    await worker.engine.open(worker.name, worker.tell)
    try:
        yield worker
    finally:
        await worker.engine.aclose()


def engine_of(lanes: Lanes) -> PostgresqlEngine:
    """Return the engine of lanes in PostgreSQL."""
    assert isinstance(lanes.gate, SharedGate)
    assert isinstance(lanes.gate.engine, PostgresqlEngine)
    return lanes.gate.engine
