"""Lua scripts in files of their own."""

import hashlib
from dataclasses import dataclass, field
from importlib.resources import files

from turnlane.redis.commands import Packed, packed

__all__ = ("Script", "script_in")


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, the digest a server knows it by, and what it is called with as it is sent."""

    name: str
    text: str
    sha: str
    call: Packed = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "call", packed(("EVALSHA", self.sha)))


def script_in(package: str, name: str) -> Script:
    """Return the script in `lua/<name>.lua` of a package."""
    text = files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
