"""What transcript tests look at, and the edits that nobody owns."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from turnlane.transcripts import Transcript

__all__ = ("EDITS", "Edit", "append", "line", "open_below", "said", "salvaged_in", "user")

Edit = Callable[[Path], None]


def user(text: str) -> dict[str, Any]:
    """An entry."""
    return {"role": "user", "content": text}


def line(entry: dict[str, Any]) -> bytes:
    """An entry as somebody else might write it."""
    return json.dumps(entry).encode() + b"\n"


def said(entries: Any) -> list[str]:
    """The texts of some entries."""
    return [entry["content"] for entry in entries]


def salvaged_in(directory: Path) -> list[str]:
    """The texts of all entries in the salvage files of a directory, in order."""
    texts: list[str] = []
    for path in sorted(directory.glob("*.salvage.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            texts += said(json.loads(text).get("entries", ()))
    return texts


def open_below(directory: Path) -> list[str]:
    """The files in a directory that this process has open; what other tests have left elsewhere does not count."""
    found: list[str] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of this very look
            found.append(os.readlink(descriptor))
    return [path for path in found if path.startswith(f"{directory}{os.sep}")]


def path_of(transcript: Transcript) -> Path:
    """The file of an open transcript."""
    return Path(transcript.path)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(line(user("by hand")))


def edit_in_place(path: Path) -> None:
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(content.replace(b"first", b"FIRST"))


def truncate(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    os.truncate(path, len(lines[0]))


def cut_the_line_feed(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def replace_by_rename(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(path.read_bytes() + line(user("by hand")))
    other.replace(path)


def replace_by_same_size(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(path.read_bytes().replace(b"first", b"FIRST"))
    other.replace(path)


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    os.truncate(path, 0)


def reformat(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'{"', b'{ "'))


def add_a_mark(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def add_carriage_returns(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def append_a_blank_line(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\n")


def append_half_a_line(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"role": "us')


def swap_lines(path: Path) -> None:
    first, second, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([second, first, *rest]))


def edit_and_set_the_time_back(path: Path) -> None:
    before = path.stat()
    edit_in_place(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def append_and_cut_elsewhere(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + content[len(content) // 2 + 1 :] + b"\n")


EDITS: dict[str, tuple[Edit, str]] = {
    "append": (append, "appended"),
    "edit in place": (edit_in_place, "edited"),
    "truncate": (truncate, "truncated"),
    "cut the last line feed": (cut_the_line_feed, "truncated"),
    "replace by rename": (replace_by_rename, "replaced"),
    "replace by a file of the same size": (replace_by_same_size, "replaced"),
    "delete": (delete, "deleted"),
    "empty": (empty, "truncated"),
    "reformat": (reformat, "edited"),
    "add a byte order mark": (add_a_mark, "edited"),
    "add carriage returns": (add_carriage_returns, "edited"),
    "append a blank line": (append_a_blank_line, "appended"),
    "append half a line": (append_half_a_line, "appended"),
    "swap two lines": (swap_lines, "edited"),
    "edit and set the time back": (edit_and_set_the_time_back, "edited"),
    "append and cut elsewhere": (append_and_cut_elsewhere, "edited"),
}
"""Sixteen edits nobody owns, and what a turn calls them that knows the old content."""
