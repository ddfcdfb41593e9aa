"""What every file of the project keeps to."""

import ast
import importlib.resources
import re
from pathlib import Path

import pytest

from architecture.source_files import PACKAGES, ROOT, Source, project_files

LONGEST_FILE = 500
TOP_LEVEL = {"pyproject.toml", "README.md", "LICENSE", "middleware", "integrations", "tests", "examples"}
FILES = tuple(project_files())
PYTHON_FILES = tuple(Source(path) for path in FILES if path.suffix == ".py")

MACHINE_PATH = re.compile(r"(?<![\w.}-])/(?:work|farm|root|tmp|home|Users|opt)/")
REGISTRY_HOST = re.compile(r"\b(?:pypi[.]org|pythonhosted[.]org|npmjs[.](?:org|com)|yarnpkg[.]com)\b")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_top_level_holds_only_what_the_layout_names() -> None:
    """A new top-level entry is a decision about the layout, not an accident."""
    top = {path.relative_to(ROOT).parts[0] for path in FILES}
    assert {name for name in top - TOP_LEVEL if not name.startswith(".")} == set()


def test_the_source_roots_are_not_packages() -> None:
    """`middleware` and `integrations` hold packages and are none."""
    assert [shown(path) for path in FILES if path.name == "__init__.py" and path.parent.parent == ROOT] == []


def test_no_file_grows_past_its_limit() -> None:
    """A Python file of more than 500 lines holds more than one concept."""
    lengths = {shown(source.path): len(source.text.splitlines()) for source in PYTHON_FILES}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_every_file_is_python_311() -> None:
    """The floor is 3.11: no file uses syntax of a later version."""
    for source in PYTHON_FILES:
        assert source.tree.body or not source.text.strip()


def strange_places(text: str) -> list[str]:
    return [found[0] for pattern in (MACHINE_PATH, REGISTRY_HOST) for found in pattern.finditer(text)]


def test_no_file_names_a_machine() -> None:
    """No file names a directory of one machine or a package registry's host."""
    found = {shown(path): places for path in FILES if (places := strange_places(path.read_text("utf-8", "replace")))}
    assert found == {}


@pytest.mark.parametrize("parts", [("", "root", "x"), ("in ", "tmp", "x.db"), ("file://", "home", "me")])
def test_a_machine_path_is_seen(parts: tuple[str, ...]) -> None:
    """The check above can fail."""
    assert strange_places("/".join(parts)) != []


def test_every_test_says_what_it_shows() -> None:
    """Each test function has a docstring that begins on its first line."""
    silent = [
        f"{shown(source.path)}::{node.name}"
        for source in PYTHON_FILES
        if ROOT / "tests" in source.path.parents
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_are_told_that_the_package_is_typed(package: str) -> None:
    """The marker file is installed with the package."""
    assert importlib.resources.files(package).joinpath("py.typed").is_file()
