"""Holding one transcript, as it is now, against its record or the last look."""

import os
import stat
from collections.abc import Callable
from dataclasses import replace

from turnlane.transcripts.files import Files
from turnlane.transcripts.finding import ChangeKind
from turnlane.transcripts.fingerprint import Fingerprint
from turnlane.transcripts.outline import Difference, Outline, Survey, survey
from turnlane.transcripts.record import Kind, Record, State
from turnlane.transcripts.sight import Sight

__all__ = ("READ_WHOLE", "Glance", "TooLong")

READ_WHOLE = 64 * 1024
"""Files up to this size are read whole at each change; a longer one as far as it has grown."""


class TooLong(Exception):
    """More has to be read than was allowed."""


class Glance:
    """The calls of one look, and what it knows beforehand.

    Each raises `TooLong` where more would have to be read than `limit`.
    """

    __slots__ = ("_files", "_limit", "_rest", "_thorough", "before", "path")

    def __init__(
        self,
        files: Files,
        path: str,
        before: Sight | None,
        thorough: bool,
        limit: int | None,
        rest: Callable[[], None],
    ) -> None:
        self.path: str = path
        self.before: Sight | None = before
        self._files = files
        self._thorough = thorough
        self._limit = limit
        self._rest = rest

    def owned(self, session_id: str, record: Record, payload: bytes, *, boot: bytes) -> Sight:
        """Hold the file against the record; the caller reads that again afterwards."""
        owned, before, (fingerprint, is_file) = record.state, self.before, self._status()
        base = Sight(
            session_id=session_id, record=record.number, version=record.version, state=owned, fingerprint=fingerprint
        )
        outline = self._outline_of(owned)
        if fingerprint is None:
            gone = record.intent is not None and record.intent.kind is Kind.DELETE
            return base if gone else replace(base, kind="deleted", outline=outline)
        quick = None if self._thorough or record.intent is not None else self._quick(base, record, outline)
        if quick is not None:
            return quick
        if not is_file:
            return replace(base, kind="replaced", outline=outline)
        if self._thorough and fingerprint.size > owned.length:
            # Owned appends may go on while it is read: what was owned when that began must stand all the same.
            # What stands behind it is for the short looks to judge, which the old fingerprint leads to.
            part = self._survey(owned.length)
            if part is not None and part.state == owned and before is not None and before.state == owned:
                return replace(before, outline=part.outline)
        seen = self._survey(fingerprint.size, mark=owned.lines, earlier=outline)
        if seen is not None and seen.state == owned:
            return replace(base, outline=seen.outline)
        if seen is None or self._fingerprint() != fingerprint:
            return replace(base, moving=True)
        if self._is_begun(record, payload, seen) or _may_have_lost_its_tail(record, seen, boot):
            return base
        replaced = record.fingerprint is not None and fingerprint[:2] != record.fingerprint[:2]
        return _with_difference(replace(base, outline=outline), _between(owned, outline, seen), seen, replaced=replaced)

    def _quick(self, base: Sight, record: Record, outline: Outline | None) -> Sight | None:
        """Judge it by its fingerprint, where that says enough."""
        before = self.before
        if before is not None and (before.fingerprint, before.record) == (base.fingerprint, record.number):
            return before  # nothing has happened since, whatever it was
        if base.fingerprint is None or base.fingerprint != record.fingerprint:
            return None
        outline = outline or self._grown(record, base.fingerprint)
        known = outline is not None or record.state.length > READ_WHOLE
        return replace(base, outline=outline) if known else None

    def unknown(self, base: Sight) -> Sight:
        """Look at a file that has no record: empty, or nobody's."""
        fingerprint = self._fingerprint()
        base = replace(base, fingerprint=fingerprint)
        if fingerprint is None or not fingerprint.size:
            return base
        return replace(base, kind="unknown", offset=0, line=1)

    def without_journal(self, before: Sight) -> Sight:
        """Look at a file that had a journal, which is gone."""
        fingerprint = self._fingerprint()
        base = replace(before, fingerprint=fingerprint, there=None, offset=None, line=None, moving=False)
        return replace(base, kind="deleted" if fingerprint is None else "unknown", record=0)

    def foreign(self) -> Sight:
        """Hold a file of another program against the last look."""
        before, (fingerprint, is_file) = self.before, self._status()
        if fingerprint is None:
            return Sight(kind=None if before is None or before.fingerprint is None else "deleted")
        if before is not None and before.fingerprint == fingerprint and not self._thorough:
            return before
        earlier = None if before is None else before.outline
        replaced = before is not None and before.fingerprint is not None and before.fingerprint[:2] != fingerprint[:2]
        base = Sight(fingerprint=fingerprint)
        if not is_file:
            return replace(base, kind=None if before is None or before.fingerprint == fingerprint else "replaced")
        if not replaced and not self._thorough and earlier is not None:
            grown = self._appended(earlier, fingerprint)
            if grown is not None:
                lines = len(earlier.lines) - earlier.open_ended
                return replace(base, kind="appended", offset=earlier.length, line=lines + 1, outline=grown)
        if before is None and self._limit is not None and fingerprint.size > self._limit:
            return base  # the audit reads it
        seen = self._survey(fingerprint.size, earlier=earlier)
        if seen is None or self._fingerprint() != fingerprint:
            return replace(base, moving=True)
        base = replace(base, outline=seen.outline, there=seen.state)
        if earlier is None:
            if before is None or before.fingerprint in (None, fingerprint):
                return base
            return _changed_unread(base, before.fingerprint, fingerprint)
        found = seen.difference(earlier)
        return base if found is None else _with_difference(base, found, seen, replaced=replaced)

    # -- small things

    def _status(self) -> tuple[Fingerprint | None, bool]:
        """Return the fingerprint of what is there, and whether that is a file: by one call, it may go any moment."""
        status = self._files.status_of(self.path)
        return (None, False) if status is None else (Fingerprint.of(status), stat.S_ISREG(status.st_mode))

    def _fingerprint(self) -> Fingerprint | None:
        return self._status()[0]

    def _outline_of(self, owned: State) -> Outline | None:
        """Return the outline of what is owned, if it was read when it was that."""
        before = self.before
        return before.outline if before is not None and before.state == owned else None

    def _survey(self, size: int, *, mark: int = 0, earlier: Outline | None = None) -> Survey | None:
        """Read the file; None where there is none any more."""
        self._require(size)
        try:
            fd = self._files.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            seen = survey(self._files, fd, size, mark=mark, earlier=earlier, rest=self._rest)
        finally:
            self._files.close(fd)
        return seen

    def _grown(self, record: Record, fingerprint: Fingerprint) -> Outline | None:
        """Bring the outline up to owned appends since the last look; None where it takes a reading of all."""
        before, owned = self.before, record.state
        if before is None or before.outline is None or before.state is None or record.rewritten > before.version:
            return None
        outline = before.outline
        if outline.length != before.state.length or outline.length > owned.length:
            return None
        tail = self._read(outline.resumes_at, owned.length - outline.resumes_at)
        grown = None if tail is None or self._fingerprint() != fingerprint else outline.extended(tail)
        return grown if grown is not None and len(grown.lines) == owned.lines else None

    def _is_begun(self, record: Record, payload: bytes, seen: Survey) -> bool:
        """Tell whether what is there is a part of the write that has begun, or all of it."""
        intent, owned = record.intent, record.state
        if intent is None or seen.state == intent.state:
            return intent is not None
        part = seen.state.length - owned.length
        if intent.kind is not Kind.APPEND or part < 0 or seen.marked != owned.digest:
            return False
        return self._read(owned.length, part) == payload[:part]

    def _appended(self, earlier: Outline, fingerprint: Fingerprint) -> Outline | None:
        """Tell whether a long file has only grown, as far as its last line tells: the audit reads all of it."""
        if fingerprint.size <= max(earlier.length, READ_WHOLE) or not earlier.lines:
            return None
        content = self._read(earlier.last, fingerprint.size - earlier.last)
        length = earlier.length - earlier.last
        if content is None or self._fingerprint() != fingerprint:
            return None
        if hash(content[:length].removesuffix(b"" if earlier.open_ended else b"\n")) != earlier.lines[-1]:
            return None
        return earlier.extended(content if earlier.open_ended else content[length:])

    def _read(self, start: int, length: int) -> bytes | None:
        self._require(length)
        try:
            fd = self._files.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return self._files.read(fd, start, length)
        finally:
            self._files.close(fd)

    def _require(self, length: int) -> None:
        if self._limit is not None and length > self._limit:
            raise TooLong


def _may_have_lost_its_tail(record: Record, seen: Survey, boot: bytes) -> bool:
    """Tell whether it may be a power loss that has shortened it: whoever opens it next finds out."""
    return record.boot != boot and any(boot) and seen.state.length < record.state.length


def _between(owned: State, outline: Outline | None, seen: Survey) -> Difference | None:
    """Say how something differs from what is owned; None where that can not be told."""
    if outline is not None:
        return seen.difference(outline)
    if seen.state.length > owned.length and seen.marked == owned.digest and (owned.lines or not owned.length):
        return Difference("appended", seen.offset_of(owned.lines), owned.lines + 1)
    return None


def _changed_unread(base: Sight, before: Fingerprint | None, now: Fingerprint) -> Sight:
    """Say what happened to a file of another program that nobody had read."""
    if before is None or before[:2] != now[:2]:
        return replace(base, kind="replaced")
    if now.size > before.size:
        return replace(base, kind="appended", offset=before.size)
    return replace(base, kind="truncated" if now.size < before.size else "unknown")


def _with_difference(base: Sight, found: Difference | None, seen: Survey, *, replaced: bool) -> Sight:
    if found is None:
        return replace(base, kind="replaced" if replaced else "edited", there=seen.state)
    kind: ChangeKind = "replaced" if replaced else found.kind
    return replace(base, kind=kind, offset=found.offset, line=found.line, there=seen.state)
