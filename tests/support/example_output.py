"""What an example of an integration prints."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ("example_output",)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "integrations"


def example_output(
    name: str, *, directory: Path, warned: Iterable[str] = (), logged: Iterable[str] = (), timeout: float = 50
) -> list[str]:
    """Run an example in an empty directory, with warnings as errors, and return the lines it has printed.

    Args:
        name: of its file.
        directory: the empty one; it is so afterwards.
        warned: beginnings of deprecations that its framework warns itself of.
        logged: parts of lines that others may write to the log.
        timeout: seconds it may take.
    """
    ignored = [part for text in warned for part in ("-W", f"ignore:{text}:DeprecationWarning")]
    done = subprocess.run(
        [sys.executable, "-W", "error", *ignored, str(EXAMPLES / name)],
        cwd=directory,
        env={**os.environ, "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parts = tuple(logged)
    assert [line for line in done.stderr.splitlines() if not any(part in line for part in parts)] == []
    assert list(directory.iterdir()) == [], "an example leaves nothing behind"
    assert len((EXAMPLES / name).read_text().splitlines()) < 80
    return done.stdout.splitlines()
