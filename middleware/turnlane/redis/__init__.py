"""Redis and Valkey: what a URL names, a client that belongs to no event loop, Lua scripts, what its errors mean."""

from turnlane.redis.client import RedisClient
from turnlane.redis.commands import Packed, Part, packed
from turnlane.redis.reasons import Forked, Refused, Unreachable
from turnlane.redis.scripts import Script, script_in
from turnlane.redis.urls import Address, address_in, checked_prefix, is_redis

__all__ = (
    "Address",
    "Forked",
    "Packed",
    "Part",
    "RedisClient",
    "Refused",
    "Script",
    "Unreachable",
    "address_in",
    "checked_prefix",
    "is_redis",
    "packed",
    "script_in",
)
