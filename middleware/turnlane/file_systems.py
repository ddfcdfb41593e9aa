"""What kind of file system a directory is on."""

import os
from pathlib import Path

__all__ = ("file_system_of", "network_of")

NETWORKS = frozenset(
    {"9p", "afs", "ceph", "cifs", "coda", "davfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
)


def network_of(directory: str) -> str:
    """Return the kind of the network file system a directory is on; empty where it is on none that is known."""
    kind = file_system_of(directory)
    return kind if kind in NETWORKS or kind.startswith("fuse.") else ""


def file_system_of(directory: str) -> str:
    """Return the kind of file system a directory is on, as the kernel names it; empty where that can not be told."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
        device = os.stat(directory).st_dev
    except OSError:
        return ""
    wanted = b"%d:%d" % (os.major(device), os.minor(device))
    kind = b""
    for line in lines:
        mount, _, rest = line.partition(b" - ")
        if mount.split(b" ")[2:3] == [wanted]:
            kind = rest.split(b" ")[0]
    return kind.decode(errors="replace")
