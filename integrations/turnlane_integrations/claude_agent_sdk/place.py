"""Where the program keeps the file of a session."""

import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

__all__ = ("session_file",)

LONGEST = 200  # of the name of a directory; what is longer is cut, and gets a hash that is no part of the format


def session_file(session_id: str, *, cwd: str | os.PathLike[str] | None = None, env: Mapping[str, str]) -> Path | None:
    """Return the path of a session's file, whether it is there or not.

    None for a session that is not there yet, where the path of the working directory is too long to tell its place.

    Args:
        session_id: of the session.
        cwd: the working directory of its program; None for that of this process.
        env: the environment of its program: `CLAUDE_CONFIG_DIR`, else `HOME`, says where files are.
    """
    config = env.get("CLAUDE_CONFIG_DIR") or os.path.join(env.get("HOME") or Path.home(), ".claude")
    projects = Path(unicodedata.normalize("NFC", config)) / "projects"
    place = unicodedata.normalize("NFC", os.path.realpath(cwd or os.curdir))
    name = re.sub("[^a-zA-Z0-9]", "-", place)
    if len(name) <= LONGEST:
        return projects / name / f"{session_id}.jsonl"
    return next(projects.glob(f"{name[:LONGEST]}-*/{session_id}.jsonl"), None)
