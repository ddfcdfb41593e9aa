"""Check the installed wheel in an environment that has nothing but it and what it requires."""

import importlib
import importlib.metadata
import re
import sys
from pathlib import Path

PACKAGES = ("turnlane", "turnlane_integrations")


def problems() -> list[str]:
    """Return what is wrong with the installation, one line each."""
    distribution = importlib.metadata.distribution("turnlane")
    files = [str(path) for path in distribution.files or ()]
    found = [f"{name} is missing" for package in PACKAGES if (name := f"{package}/py.typed") not in files]
    if not any(name.endswith("licenses/LICENSE") for name in files):
        found.append("the license is missing")
    tops = {name.split("/")[0] for name in files if not name.startswith("..")}
    strays = sorted(top for top in tops if top not in PACKAGES and not top.endswith(".dist-info"))
    found += [f"{top} does not belong into the wheel" for top in strays]
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            getattr(module, name)
        if Path(sys.prefix) not in Path(str(module.__file__)).parents:
            found.append(f"{package} is not the installed one: {module.__file__}")
    return found + [f"{name} is installed without its extra" for name in optional() if is_installed(name)]


def optional() -> set[str]:
    """Return the distributions that only an extra asks for."""
    requirements = importlib.metadata.requires("turnlane") or []
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in requirements if "extra ==" in line}
    return names - {"turnlane"}


def is_installed(name: str) -> bool:
    """Tell whether a distribution is there."""
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    if not optional():
        sys.exit("the wheel declares no extras")
    if found := problems():
        sys.exit("\n".join(found))
    print("the wheel is complete and needs no extra")
