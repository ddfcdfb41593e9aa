"""Print the lowest versions pyproject.toml allows, one `name==version` a line.

lowest.py                 of all dependencies but the frameworks there are integrations for
lowest.py --frameworks    the names of these frameworks
lowest.py langgraph       of one of them, and of what its tests need beside it
"""

import re
import sys
import tomllib
from pathlib import Path

BOUND = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(?P<extras>\[[a-z,-]+\])?>=(?P<version>[0-9][0-9A-Za-z.]*)(?P<marker>\s*;.*)?"
)
OWN = re.compile(r"turnlane\[(?P<extras>[a-z0-9,-]+)\]")


def pinned(requirement: str) -> str:
    """Return a requirement at its lowest version; one without a lower bound is an error."""
    found = BOUND.fullmatch(requirement)
    if found is None:
        sys.exit(f"pyproject.toml: {requirement!r} is not of the form name>=version")
    return f"{found['name']}{found['extras'] or ''}=={found['version']}{found['marker'] or ''}"


def name_of(requirement: str) -> str:
    """Return the distribution a requirement is for."""
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0]


def main(pyproject: Path, arguments: list[str]) -> list[str]:
    """Return the lines to print."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    own = OWN.fullmatch(extras["integrations"][0])
    if own is None:
        sys.exit("pyproject.toml: the extra `integrations` begins with the extras of the frameworks")
    frameworks = own["extras"].split(",")
    used = extras["integrations"][1:]
    of = {name: extras[name] for name in frameworks}
    # What is used without an integration of its own is a framework too.
    bases = tuple(name_of(requirements[0]) for requirements in of.values())
    of |= {name_of(each): [] for each in used if not name_of(each).startswith(bases)}
    if arguments == ["--frameworks"]:
        return list(of)
    if arguments:
        own_names = [name_of(each) for each in of[arguments[0]][:1]] or arguments
        beside = [each for each in used if name_of(each).startswith(own_names[0])]
        return [pinned(requirement) for requirement in (*of[arguments[0]], *beside)]
    groups = [project["dependencies"]]
    groups += [group for name, group in extras.items() if name not in (*frameworks, "integrations")]
    return [pinned(each) for group in groups for each in group if OWN.fullmatch(each) is None]


if __name__ == "__main__":
    print("\n".join(main(Path(__file__).parents[1] / "pyproject.toml", sys.argv[1:])))
