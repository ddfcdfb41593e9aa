"""Where words go that could not be stored: a file beside the transcript, one JSON object for each rescue."""

import base64
import json
import os
from collections.abc import Sequence

from turnlane.transcripts.files import Files

__all__ = ("salvage",)


def salvage(
    files: Files, path: str, *, at: float, reason: str, turn: str, token: int | None, lines: Sequence[bytes], sync: bool
) -> str:
    """Append one rescue to the salvage file and return its path.

    Args:
        files: the calls it is made with.
        path: of the salvage file; it is made if it is not there, readable by its owner only.
        at: seconds since the epoch.
        reason: why they could not be stored.
        turn: whose words they are; empty for nobody's.
        token: the token they came with.
        lines: the entries as they would have been stored, or bytes that were left of one.
        sync: whether they are on the disk when this returns.

    Raises:
        OSError: they could not be stored here either.
    """
    document: dict[str, object] = {"at": at, "reason": reason, "turn": turn or None, "token": token}
    try:
        document["entries"] = [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        document["bytes"] = [base64.b64encode(line).decode() for line in lines]
    content = json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    fd = files.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        size = files.status(fd).st_size
        torn = size > 0 and files.read(fd, size - 1, 1) != b"\n"  # by somebody who died here, or a disk that was full
        files.append(fd, (b"\n" if torn else b"") + content)
        if sync:
            files.sync(fd)
            files.sync_directory(os.path.dirname(path) or ".")
    finally:
        files.close(fd)
    return path
