"""What the file system says of a file, and how far that can be believed."""

import os
from dataclasses import dataclass
from typing import NamedTuple, Self

__all__ = ("Fingerprint", "Tick")

WHOLE_SECOND = 1_000_000_000


class Fingerprint(NamedTuple):
    """Device, inode, size and the times of the last change, in nanoseconds.

    Two that differ prove that something happened to the file, if only to its mode or its links. Two that are equal
    prove nothing by themselves: see `Tick`, and a store through an old memory mapping moves none of these.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the fingerprint in what `os.stat` returned."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Tick:
    """How coarse the time stamps of a file system are.

    Within one tick a second change leaves the stamps of the first, so a fingerprint taken then is too young to prove
    that nothing happened since. The rule is that of git's racily clean index entries.

    Args:
        fine: whether each change that follows a look gets a stamp of its own, as the multigrain time stamps of
            Linux 6.13 and later do.
    """

    fine: bool

    def is_settled(self, fingerprint: Fingerprint, taken_ns: int) -> bool:
        """Tell whether a change after `taken_ns`, nanoseconds since the epoch, would have moved the fingerprint."""
        if self.fine:
            return True
        newest = max(fingerprint.modified_ns, fingerprint.changed_ns)
        coarse = fingerprint.modified_ns % WHOLE_SECOND == 0 and fingerprint.changed_ns % WHOLE_SECOND == 0
        # Kernels stamp with a clock that ticks every 1 to 10 ms; some file systems keep whole seconds, FAT every other.
        return taken_ns - newest > (2 * WHOLE_SECOND + WHOLE_SECOND // 2 if coarse else WHOLE_SECOND // 20)
