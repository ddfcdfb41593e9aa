"""Finds and parses what the architecture tests read: the packages as imported, and the files of the project."""

import ast
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("turnlane", "turnlane_integrations")


@dataclass(frozen=True)
class Source:
    """One Python file, parsed when asked for. `module` is its import name, empty outside the packages."""

    path: Path
    module: str = ""

    def __str__(self) -> str:
        return self.module or self.path.name

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree; raises `SyntaxError` for what Python 3.11 can not read."""
        return ast.parse(self.text, filename=str(self.path), feature_version=(3, 11))

    def forget(self) -> None:
        """Let go of what was read; it is read again when asked for."""
        for name in ("text", "tree"):
            vars(self).pop(name, None)

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


def package_sources() -> Iterator[Source]:
    """Every module of the packages: of the tree when installed in place, of the wheel when that is installed."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None, f"{package} can not be imported"
        assert spec.origin is not None, f"{package} has no __init__.py"
        base = Path(spec.origin).parent
        for path in sorted(base.rglob("*.py")):
            parts = (package, *path.relative_to(base).with_suffix("").parts)
            yield Source(path, ".".join(parts[:-1] if path.name == "__init__.py" else parts))


def project_files() -> Iterator[Path]:
    """Every file of the project; hidden directories other than .ci and whatever .gitignore names are not its own."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split()]

    def is_own(name: str) -> bool:
        return not any(fnmatch(name, pattern) for pattern in ignored)

    for directory, names, files in os.walk(ROOT):
        names[:] = sorted(name for name in names if is_own(name) and (name == ".ci" or not name.startswith(".")))
        yield from (Path(directory, name) for name in sorted(files) if is_own(name))
