"""Clocks of servers that can be set: a library between the server and the machine's clock adds what a file says.

Not the library of faketime: it does not start with an allocator that asks for the time, as the one of Debian's Redis.
"""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

__all__ = ("ServerClock",)

SOURCE = Path(__file__).with_name("clock_step.c")


class ServerClock:
    """The clock of one server, which is given `environment`. Without a compiler a test is skipped, on CI it fails.

    Args:
        directory: which the server can read.
    """

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("gcc")
        if compiler is None:
            missing = "gcc not found; Debian has it: apt-get install gcc libc6-dev"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
        library, self._file = directory / "clock_step.so", directory / "clock_step"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
        self.set(0)
        for path in (library, self._file):
            path.chmod(0o644)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_STEP": str(self._file)}

    def set(self, seconds: int) -> None:
        """Have it so many seconds ahead of the machine's, at once."""
        file = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(file, struct.pack("q", seconds), 0)
        finally:
            os.close(file)
