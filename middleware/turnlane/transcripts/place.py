"""The directory transcripts live in: made private, refused on a network."""

import os
from contextlib import nullcontext, suppress
from pathlib import Path

from turnlane.errors import TranscriptUnavailable
from turnlane.file_systems import network_of
from turnlane.transcripts.files import Files

__all__ = ("boot_of", "make_private", "refuse_network")


def make_private(files: Files, directory: str, *, sync: bool) -> None:
    """Make a directory that only its owner may enter, where there is none; with `sync` its name is on the disk then.

    Raises:
        OSError: it can not be made, or something else has its name.
    """
    made: list[str] = []
    parent = os.path.abspath(directory)
    while not os.path.isdir(parent):
        made.append(parent)
        parent = os.path.dirname(parent)
    files.make_directory(directory)
    if sync:
        # Whoever made it before may not have come so far: what is there already is synced too, if it may be opened.
        for path in made or [os.path.abspath(directory)]:
            with nullcontext() if made else suppress(PermissionError):
                files.sync_directory(os.path.dirname(path))


def refuse_network(directory: str) -> None:
    """Refuse a directory on a network file system: what locks and time stamps mean there is not known.

    Raises:
        TranscriptUnavailable: it is on one.
    """
    kind = network_of(directory)
    if kind:
        reason = (
            f"it is on the network file system {kind!r}, where locks and time stamps can not be relied on; "
            "allow_network_fs=True uses it all the same"
        )
        raise TranscriptUnavailable(directory, operation="keep transcripts in it", reason=reason)


def boot_of() -> bytes:
    """Return 16 bytes that name this boot of the machine; zeros where it does not tell."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return bytes.fromhex(text.strip().replace("-", "")).ljust(16, b"\0")[:16]
    except (OSError, ValueError):
        return bytes(16)
