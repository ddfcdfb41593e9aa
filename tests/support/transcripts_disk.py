"""A disk that loses its power: what was written through the file port, and every image that may be left of it.

What was there when a file was synced is there. Of the writes since then any part may be, split at the borders of
sectors; the file may have any length it had meanwhile, with zeros where nothing arrived. A name is there for sure once
its directory was synced. After a sync that failed the kernel calls the pages clean: what was written before it is never
sure again, unless it is written once more.
"""

import itertools
import math
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from support.transcripts_faults import Faults, FaultyFiles
from turnlane.transcripts.files import Files

__all__ = ("Disk", "FaultyRecording", "Image", "Moment", "RecordingFiles", "images")

SECTOR = 512

Image = dict[str, bytes] | None
"""The content of each file by its name; None where the directory itself is not there."""


@dataclass(frozen=True, slots=True)
class Change:
    """A write within one sector, or, without content, a cut; `sure` once it is on the disk."""

    start: int
    content: bytes | None
    sure: bool = False

    def applied(self, before: bytes) -> bytes:
        if self.content is None:
            return before[: self.start].ljust(self.start, b"\0")
        end = self.start + len(self.content)
        return before[: self.start].ljust(self.start, b"\0") + self.content + before[end:]


@dataclass(frozen=True, slots=True)
class Node:
    """One file: the changes in order, and every length it had since it was synced.

    `doubtful` is the number of changes, from the first, that a failed sync has left in doubt for good.
    """

    changes: tuple[Change, ...] = ()
    lengths: tuple[int, ...] = (0,)
    doubtful: int = 0

    def changed(self, changes: Sequence[Change]) -> "Node":
        lengths = list(self.lengths)
        for change in changes:
            end = change.start if change.content is None else change.start + len(change.content)
            lengths.append(end if change.content is None else max(lengths[-1], end))
        return replace(self, changes=(*self.changes, *changes), lengths=tuple(lengths))

    def synced(self) -> "Node":
        changes = list(self.changes)
        for number in range(self.doubtful, len(changes)):
            changes[number] = replace(changes[number], sure=True)
        return replace(self, changes=tuple(changes), lengths=self.lengths[-1:])

    def not_synced(self) -> "Node":
        return replace(self, doubtful=len(self.changes))

    def content(self, arrived: Sequence[bool], length: int | None) -> bytes:
        """Return what is there if just these of the doubtful changes have arrived."""
        chosen, found = iter(arrived), b""
        for change in self.changes:
            if change.sure or next(chosen):
                found = change.applied(found)
        return found if length is None else found[:length].ljust(length, b"\0")


@dataclass(frozen=True, slots=True)
class Naming:
    """A file gets a name (`old` is the one it had, if any), or, without a node, a name goes; in a directory."""

    directory: str
    name: str
    node: int | None
    old: str | None = None

    def applied(self, names: dict[str, int]) -> None:
        if self.old is not None:
            names.pop(self.old, None)
        if self.node is None:
            names.pop(self.name, None)
        else:
            names[self.name] = self.node


@dataclass(frozen=True, slots=True)
class Moment:
    """What is known of the disk at one moment, and what had been acknowledged and handed over by then."""

    nodes: tuple[Node, ...]
    names: tuple[tuple[str, int], ...]
    namings: tuple[Naming, ...]
    root: bool | None
    acknowledged: tuple[str, ...]
    handed: tuple[tuple[str, ...], ...]
    salvaged: tuple[str, ...]


class Disk:
    """What was done to one directory, in order.

    Mutable: all of it. `root` is whether the directory's own name is on the disk: None as long as it may be or not.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.moments: list[Moment] = []
        self.acknowledged: list[str] = []
        self.handed: list[tuple[str, ...]] = []
        self.salvaged: list[str] = []
        self.root: bool | None = False
        self._nodes: list[Node] = []
        self._keys: dict[tuple[int, int], int] = {}
        self._names: dict[str, int] = {}
        self._namings: list[Naming] = []

    def made(self, path: str) -> None:
        """A directory was made."""
        if Path(path) == self.directory:
            self.root = None
        self.remember()

    def created(self, path: str, key: tuple[int, int]) -> None:
        """A file was made, and has a name that is not synced."""
        self._nodes.append(Node())
        self._keys[key] = len(self._nodes) - 1
        self._namings.append(Naming(os.path.dirname(path), os.path.basename(path), self._keys[key]))
        self.remember()

    def written(self, key: tuple[int, int], start: int, content: bytes) -> None:
        """Something was written."""
        borders = [start, *range((start // SECTOR + 1) * SECTOR, start + len(content), SECTOR), start + len(content)]
        self._change(key, [Change(one, content[one - start : two - start]) for one, two in itertools.pairwise(borders)])

    def cut(self, key: tuple[int, int], length: int) -> None:
        """A file was cut off."""
        self._change(key, [Change(length, None)])

    def synced(self, key: tuple[int, int], *, failed: bool = False) -> None:
        """A file was synced, or that failed."""
        node = self._nodes[self._keys[key]]
        self._nodes[self._keys[key]] = node.not_synced() if failed else node.synced()
        self.remember()

    def directory_synced(self, path: str) -> None:
        """The names in a directory were synced."""
        if Path(path) == self.directory.parent and self.root is None:
            self.root = True
        for naming in [naming for naming in self._namings if naming.directory == path]:
            naming.applied(self._names)
            self._namings.remove(naming)
        self.remember()

    def renamed(self, old: str, new: str, key: tuple[int, int]) -> None:
        """A file got another name in its directory."""
        self._namings.append(
            Naming(os.path.dirname(new), os.path.basename(new), self._keys[key], os.path.basename(old))
        )
        self.remember()

    def remember(self) -> None:
        """Remember how it is now."""
        moment = Moment(
            tuple(self._nodes),
            tuple(self._names.items()),
            tuple(self._namings),
            self.root,
            tuple(self.acknowledged),
            tuple(self.handed),
            tuple(self.salvaged),
        )
        self.moments.append(moment)

    def _change(self, key: tuple[int, int], changes: Sequence[Change]) -> None:
        self._nodes[self._keys[key]] = self._nodes[self._keys[key]].changed(changes)
        self.remember()


def images(moment: Moment, most: int, chance: random.Random) -> Iterator[Image]:
    """Yield every image a moment may leave,

    More than `most` are not tried: then it is as many by chance, the extremes first.
    """
    dimensions: list[Sequence[object]] = [(False, True)] if moment.root is None else [(moment.root,)]
    dimensions += [(False, True)] * len(moment.namings)
    for node in moment.nodes:
        dimensions += [(False, True)] * sum(not change.sure for change in node.changes)
        dimensions.append((None, *dict.fromkeys(node.lengths)))
    if math.prod(map(len, dimensions)) <= most:
        choices: Iterator[Sequence[object]] = iter(itertools.product(*dimensions))
    else:
        extremes = [[one[0] for one in dimensions], [one[-1] for one in dimensions]]
        chosen = ([chance.choice(one) for one in dimensions] for _ in range(most - 2))
        choices = itertools.chain(extremes, chosen)
    for choice in choices:
        yield _image(moment, choice)


def _image(moment: Moment, choice: Sequence[object]) -> Image:
    left = iter(choice)
    if not next(left):
        return None
    names = dict(moment.names)
    for naming in moment.namings:
        if next(left):
            naming.applied(names)
    contents: list[bytes] = []
    for node in moment.nodes:
        arrived = [bool(next(left)) for change in node.changes if not change.sure]
        length = next(left)
        contents.append(node.content(arrived, length if isinstance(length, int) else None))
    return {name: contents[number] for name, number in names.items()}


class RecordingFiles(Files):
    """Calls `os`, and tells a disk what was done."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def make_directory(self, path: str) -> None:
        new = not os.path.isdir(path)
        super().make_directory(path)
        if new:
            self.disk.made(path)

    def open(self, path: str, flags: int) -> int:
        new = not os.path.lexists(path)
        fd = super().open(path, flags)
        if new:
            self.disk.created(path, self._key(fd))
        return fd

    def write(self, fd: int, start: int, content: bytes) -> None:
        super().write(fd, start, content)
        self.disk.written(self._key(fd), start, content)

    def append(self, fd: int, content: bytes) -> None:
        start = os.fstat(fd).st_size
        super().append(fd, content)
        self.disk.written(self._key(fd), start, content)

    def cut(self, fd: int, length: int) -> None:
        super().cut(fd, length)
        self.disk.cut(self._key(fd), length)

    def sync(self, fd: int) -> None:
        self.disk.synced(self._key(fd))

    def sync_directory(self, path: str) -> None:
        self.disk.directory_synced(path)

    def rename(self, old: str, new: str) -> None:
        status = os.stat(old)
        super().rename(old, new)
        self.disk.renamed(old, new, (status.st_dev, status.st_ino))

    def _key(self, fd: int) -> tuple[int, int]:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino


class FaultyRecording(FaultyFiles, RecordingFiles):
    """The same with a fault: half of a write is recorded, and a sync that failed."""

    def __init__(self, faults: Faults, disk: Disk) -> None:
        FaultyFiles.__init__(self, faults)
        RecordingFiles.__init__(self, disk)

    def sync(self, fd: int) -> None:
        try:
            super().sync(fd)
        except OSError:
            self.disk.synced(self._key(fd), failed=True)
            raise
