"""The engine of many machines: lanes in a PostgreSQL database."""

from turnlane.engines.postgresql.engine import PostgresqlEngine

__all__ = ("PostgresqlEngine",)
