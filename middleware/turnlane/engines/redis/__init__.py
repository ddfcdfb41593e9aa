"""`redis://...`: lanes of processes on any number of machines, in Redis or Valkey."""

from turnlane.engines.redis.engine import RedisEngine

__all__ = ("RedisEngine",)
