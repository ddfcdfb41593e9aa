"""Print the lowest version pyproject.toml allows of each dependency, as a constraints file for pip."""

import re
import sys
import tomllib
from pathlib import Path

BOUND = re.compile(r"(?P<name>[A-Za-z0-9._-]+)>=(?P<version>[0-9][0-9A-Za-z.]*)(?P<marker>\s*;.*)?")


def lowest_versions(pyproject: Path) -> list[str]:
    """Return `name==version` lines; a requirement without a lower bound is an error, our own extras aside."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    lines: list[str] = []
    for requirement in [requirement for group in groups for requirement in group]:
        if requirement.startswith(f"{project['name']}["):
            continue
        found = BOUND.fullmatch(requirement)
        if found is None:
            sys.exit(f"{pyproject.name}: {requirement!r} is not of the form name>=version")
        lines.append(f"{found['name']}=={found['version']}{found['marker'] or ''}")
    return lines


if __name__ == "__main__":
    print("\n".join(lowest_versions(Path(__file__).parents[1] / "pyproject.toml")))
