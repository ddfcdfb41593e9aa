"""Which module may import which."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from architecture.source_files import Source, package_sources

# Lower ranks know nothing of higher ones. The longest matching name counts. Two units of one rank do not know each
# other; within a unit (the first two parts of the name) everything goes that makes no circle.
RANKS = {
    "turnlane.errors": 0,
    "turnlane.clock": 0,
    "turnlane.arguments": 0,
    "turnlane.begun": 0,
    "turnlane.file_systems": 0,
    "turnlane.settled": 0,
    "turnlane.stacks": 0,
    "turnlane.keys": 1,
    "turnlane.policies": 1,
    "turnlane.hooks": 1,
    "turnlane.messages": 1,
    "turnlane.redis": 1,
    "turnlane.postgresql": 1,
    "turnlane.sqlite": 1,
    "turnlane.turns": 2,
    "turnlane.engines": 2,
    "turnlane.duplicates.contract": 2,
    "turnlane.lanes": 3,
    "turnlane.duplicates": 3,
    "turnlane.sessions": 3,
    "turnlane.transcripts": 3,
    "turnlane.turns.agent": 4,
    "turnlane.turns.joining": 4,
    "turnlane.turns.opening": 4,
    "turnlane.drain": 4,
    "turnlane.parts": 5,
    "turnlane.runtime": 6,
    "turnlane.asgi": 7,
    "turnlane.httpx": 3,
    "turnlane.testing": 7,
    "turnlane.cli": 8,
    "turnlane.__main__": 9,
    "turnlane": 9,
    "turnlane_integrations._needs": 10,
    "turnlane_integrations._across_loops": 10,
    "turnlane_integrations._checked": 10,
    "turnlane_integrations._entries": 10,
    "turnlane_integrations._blocking": 10,
    "turnlane_integrations._request": 10,
    "turnlane_integrations._refused": 11,
    "turnlane_integrations._policies": 11,
    "turnlane_integrations": 12,
}

SOURCES = tuple(package_sources())
MODULES = frozenset(source.module for source in SOURCES)


def rank_of(module: str) -> int | None:
    """The rank of a module; the roots themselves have one, an unlisted part of them has none."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in RANKS and (name != "turnlane" or module == "turnlane"):
            return RANKS[name]
    return None


def unit_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def is_for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def import_nodes(node: ast.AST, *, into_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import that can run, those under TYPE_CHECKING left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif is_for_checkers(child) or (
            not into_functions and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        ):
            continue
        else:
            yield from import_nodes(child, into_functions=into_functions)


def imported_names(tree: ast.AST, *, into_functions: bool = True) -> Iterator[str]:
    """What a tree imports: `from a import b` is a.b when that is a module of ours, else a."""
    for node in import_nodes(tree, into_functions=into_functions):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            assert node.level == 0, "relative imports are banned"
            base = node.module or ""
            yield from (name if (name := f"{base}.{alias.name}") in MODULES else base for alias in node.names)


def wrong_directions(source: Source, imported: Iterable[str]) -> list[str]:
    own = rank_of(source.module)
    if own is None:
        return [f"{source.module} has no place in RANKS"]
    wrong: list[str] = []
    for name in imported:
        if name.split(".")[0] not in ("turnlane", "turnlane_integrations"):
            continue
        other = rank_of(name)
        if other is None:
            wrong.append(f"{name}, imported by {source.module}, has no place in RANKS")
        elif other > own or (other == own and unit_of(name) != unit_of(source.module)):
            wrong.append(f"{source.module} (rank {own}) imports {name} (rank {other})")
    return wrong


def test_imports_point_one_way() -> None:
    """No module imports from a higher rank or from a neighbour of its own rank."""
    assert [line for source in SOURCES for line in wrong_directions(source, imported_names(source.tree))] == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("turnlane.errors", "import turnlane.hooks"),
        ("turnlane.lanes.gate", "from turnlane.sessions import Sessions"),
        ("turnlane.keys", "def late():\n    from turnlane import LaneMiddleware"),
        ("turnlane.cli", "import turnlane_integrations"),
        ("turnlane.somewhere", ""),
    ],
)
def test_a_wrong_direction_is_seen(module: str, text: str) -> None:
    """The check above can fail: upwards, sideways, late, from outside, and for a module nobody placed."""
    source = Source(Path("planted.py"), module)
    assert wrong_directions(source, imported_names(ast.parse(text))) != []


def test_no_import_goes_in_a_circle() -> None:
    """The imports that run when a module is loaded form no circle, so any module can be imported first."""
    graph = {
        source.module: set(imported_names(source.tree, into_functions=False)) & MODULES - {source.module}
        for source in SOURCES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"modules import each other: {' <- '.join(circle.args[1])}")


def test_only_asgi_knows_starlette() -> None:
    """Starlette is imported by turnlane.asgi and by nothing else."""
    outside = [source for source in SOURCES if unit_of(source.module) != "turnlane.asgi"]
    assert [str(s) for s in outside if any(re.match(r"starlette\b", name) for name in imported_names(s.tree))] == []


def time_readers(tree: ast.AST) -> list[str]:
    calls = ("datetime.now", "datetime.utcnow", "date.today", "datetime.today")
    found = [name for name in imported_names(tree) if name == "time"]
    attributes = (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return found + [text for text in attributes if text.endswith(calls)]


def test_only_the_clock_reads_time() -> None:
    """Outside turnlane.clock, and turnlane.testing for real deadlines, nobody imports `time` or asks for today."""
    allowed = ("turnlane.clock", "turnlane.testing")
    assert {
        s.module: found for s in SOURCES if unit_of(s.module) not in allowed and (found := time_readers(s.tree))
    } == {}


@pytest.mark.parametrize(
    "text", ["import time", "from time import monotonic", "datetime.datetime.now(tz)", "date.today()"]
)
def test_a_reader_of_time_is_seen(text: str) -> None:
    """The check above can fail."""
    assert time_readers(ast.parse(text)) != []


BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(f"{name} is optional and was imported", name=name)

OPTIONAL = set(sys.argv[2].split(","))
sys.meta_path.insert(0, Blocker())
exec(sys.argv[1])
"""


def optional_modules() -> set[str]:
    """The import names of every installed distribution that only an extra asks for."""
    required: set[str] = set()
    optional: set[str] = set()
    for requirement in importlib.metadata.requires("turnlane") or ():
        found = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert found is not None, requirement
        (optional if re.search(r"\bextra\s*==", requirement) else required).add(normalized(found[0]))
    optional -= required | {"turnlane"}
    provided = importlib.metadata.packages_distributions().items()
    return {module for module, owners in provided if {normalized(owner) for owner in owners} & optional}


def normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def run_blocked(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", BLOCKER, code, ",".join(sorted(optional_modules()))],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )


def test_importing_turnlane_needs_no_optional_dependency() -> None:
    """With every package blocked that only an extra asks for, both packages and all public names are there."""
    done = run_blocked("import turnlane, turnlane_integrations; [getattr(turnlane, n) for n in turnlane.__all__]")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["fastapi", "uvicorn", "openai", "python_multipart", "hypothesis"])
def test_an_optional_dependency_is_really_blocked(module: str) -> None:
    """The check above can fail: what the extras bring is known by its import name and can not be imported there."""
    done = run_blocked(f"import {module}")
    assert done.returncode != 0
    assert f"{module} is optional" in done.stderr
