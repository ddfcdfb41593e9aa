"""Sessions: one session id per session key, and the versioned entry behind it."""

from turnlane.sessions.base import Change, Reservation, SessionStore
from turnlane.sessions.entry import Session, SessionEntry
from turnlane.sessions.freshness import Freshness
from turnlane.sessions.memory import MemorySessionStore
from turnlane.sessions.patches import DELETE, UNSET, Draft
from turnlane.sessions.postgresql import PostgresqlSessionStore
from turnlane.sessions.redis import RedisSessionStore
from turnlane.sessions.sessions import Sessions
from turnlane.sessions.sqlite import SqliteSessionStore

__all__ = (
    "DELETE",
    "UNSET",
    "Change",
    "Draft",
    "Freshness",
    "MemorySessionStore",
    "PostgresqlSessionStore",
    "RedisSessionStore",
    "Reservation",
    "Session",
    "SessionEntry",
    "SessionStore",
    "Sessions",
    "SqliteSessionStore",
)
