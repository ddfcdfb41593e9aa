"""The scripts of the steps, and the names of what they keep."""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from turnlane.redis import Script

__all__ = ("BUCKETS", "SCRIPTS", "Names")

BUCKETS = 128
"""What lanes are divided among. Those of one are in one slot of a cluster, and share one record of the last token."""


def _text(name: str) -> str:
    return files("turnlane.engines.redis").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def _step(name: str) -> Script:
    return _alone(name, _text("rows"), _text("lane"))


def _alone(name: str, *before: str) -> Script:
    text = "\n".join((*before, _text(name)))
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


SCRIPTS: Final[Mapping[str, Script]] = MappingProxyType(
    {name: _step(name) for name in ("acquire", "leave", "settle", "interrupt", "pause", "renew", "close", "look")}
    | {name: _alone(name) for name in ("open", "index")}
)
"""By name; each step behind what all have in common."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the keys and channels of one engine. Those of a bucket have one hash tag."""

    prefix: str

    def bucket_of(self, key: str) -> int:
        """Return which bucket a lane is in."""
        return zlib.crc32(_bytes(key)) % BUCKETS

    def of_lane(self, key: str) -> tuple[bytes, ...]:
        """Return the keys of a lane, in the order `rows.lua` says."""
        bucket = self.bucket_of(key)
        tag, name = self._tag(bucket), _bytes(key)
        shared = (self.bucket(bucket), self.index(bucket), tag + b":over", tag + b":fates")
        return (tag + b":lane:" + name, tag + b":line:" + name, *shared)

    def bucket(self, bucket: int) -> bytes:
        """Return the record of a bucket."""
        return self._tag(bucket) + b":bucket"

    def index(self, bucket: int) -> bytes:
        """Return the index of a bucket."""
        return self._tag(bucket) + b":lanes"

    @property
    def channel(self) -> str:
        """The channel of all workers; that of one is its name behind it."""
        return f"{self.prefix}:worker:"

    def _tag(self, bucket: int) -> bytes:
        return f"{{{self.prefix}:{bucket}}}".encode()


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")
