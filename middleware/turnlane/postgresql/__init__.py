"""PostgreSQL: pools, transactions that say whether they happened, migrations, what its errors mean."""

from turnlane.postgresql.attempt import Job
from turnlane.postgresql.database import Database
from turnlane.postgresql.functions import Functions, is_proxied
from turnlane.postgresql.reasons import Forked, PostgresqlError, Refused, Unavailable, Unsettled
from turnlane.postgresql.text import restored, storable, stored
from turnlane.postgresql.transaction import Row, Transaction
from turnlane.postgresql.urls import Address, address_in, is_postgresql

__all__ = (
    "Address",
    "Database",
    "Forked",
    "Functions",
    "Job",
    "PostgresqlError",
    "Refused",
    "Row",
    "Transaction",
    "Unavailable",
    "Unsettled",
    "address_in",
    "is_postgresql",
    "is_proxied",
    "restored",
    "storable",
    "stored",
)
