"""Lua scripts in files of their own."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

__all__ = ("Script", "script_in")


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, and the digest a server knows it by."""

    name: str
    text: str
    sha: str


def script_in(package: str, name: str) -> Script:
    """Return the script in `lua/<name>.lua` of a package."""
    text = files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
