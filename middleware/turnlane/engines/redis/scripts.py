"""The scripts of the steps, and the names of what they keep."""

import hashlib
import zlib
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from turnlane.engines.redis.wire import key_out
from turnlane.redis import Packed, Script, packed

__all__ = ("BUCKETS", "SCRIPTS", "Names")

BUCKETS = 128
"""What lanes are divided among. Those of one are in one slot of a cluster, and share one record of the last token."""


def _text(name: str) -> str:
    return files("turnlane.engines.redis").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def _step(name: str, *first: str) -> Script:
    """Return a step behind what all have in common, of which `first` comes as early as it can."""
    return _alone(name, *first, "head", "rows", "lane")


def _alone(name: str, *before: str) -> Script:
    text = "\n".join(_text(each) for each in (*before, name))
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


SCRIPTS: Final[Mapping[str, Script]] = MappingProxyType(
    {name: _step(name) for name in ("settle", "interrupt", "pause", "renew", "close", "look")}
    | {"acquire": _step("acquire", "acquire_idle"), "leave": _step("leave", "leave_alone")}
    | {name: _alone(name) for name in ("open", "index")}
)
"""By name. A lane that nobody else wants is granted, and left, before the rest of its script is looked at."""


class Names:
    """The names of the keys and channels of one engine. Those of a bucket have one hash tag.

    Attributes:
        channel: of all workers; that of one is its name behind it.
        secret: the key of what all workers share.
    """

    __slots__ = ("_packed", "_shared", "_tags", "channel", "secret")

    def __init__(self, prefix: str) -> None:
        self.channel: str = f"{prefix}:worker:"
        self.secret: str = f"{{{prefix}:secret}}"
        self._tags = [f"{{{prefix}:{bucket}}}".encode() for bucket in range(BUCKETS)]
        self._shared = [(tag + b":bucket", tag + b":lanes", tag + b":over", tag + b":fates") for tag in self._tags]
        self._packed = [packed(shared) for shared in self._shared]

    def bucket_of(self, key: str) -> int:
        """Return which bucket a lane is in."""
        return zlib.crc32(key_out(key)) % BUCKETS

    def of_lane(self, key: str) -> tuple[bytes, ...]:
        """Return the keys of a lane, in the order `head.lua` says."""
        name = key_out(key)
        bucket = zlib.crc32(name) % BUCKETS
        tag = self._tags[bucket]
        return (tag + b":lane:" + name, tag + b":line:" + name, *self._shared[bucket])

    def packed(self, lane: bytes) -> tuple[bytes, Packed]:
        """Return the first key of a lane, and all of them behind their number, as they are sent."""
        bucket = zlib.crc32(lane) % BUCKETS
        tag = self._tags[bucket]
        first, second = tag + b":lane:" + lane, tag + b":line:" + lane
        shared = self._packed[bucket].sent
        sent = b"$1\r\n6\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (len(first), first, len(second), second, shared)
        return first, Packed(7, sent)

    def bucket(self, bucket: int) -> bytes:
        """Return the record of a bucket."""
        return self._shared[bucket][0]

    def index(self, bucket: int) -> bytes:
        """Return the index of a bucket."""
        return self._shared[bucket][1]
