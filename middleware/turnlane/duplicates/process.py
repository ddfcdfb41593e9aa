"""Which process this is, in words that another process of the machine can check."""

import os
from pathlib import Path

__all__ = ("is_gone", "this_process")


def this_process() -> str:
    """Return what names this process on this machine: boot, pid namespace, pid, start; blanks for what is not told."""
    pid = os.getpid()
    return f"{_boot()}/{_namespace()}/{pid}/{_started(pid)}"


def is_gone(process: str) -> bool:
    """Tell whether a process that `this_process` named has ended; False wherever that can not be told."""
    boot, namespace, pid, started = [*process.split("/"), "", "", ""][:4]
    if not boot or not started or not pid.isdecimal() or not _boot():
        return False
    if boot != _boot():
        return True
    if namespace != _namespace():
        return False
    return _started(int(pid)) != started


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return the clock tick a process began in; blank for one that has ended, also if nobody has asked for its end."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
    except (OSError, IndexError):
        return ""
