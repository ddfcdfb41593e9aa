"""One look at one transcript from outside: without its lock, nothing written, judged by its journal or the last look.

An owned write may be under way in any process while somebody looks. Each begins with a record in the journal and ends
with one, so whoever reads the journal before and after the file and finds the same record, with no write begun, knows
that no owned write changed what it has read. Everything else is called moving, and looked at again.
"""

from collections.abc import Callable

from turnlane.errors import TranscriptUnavailable
from turnlane.transcripts.files import Files
from turnlane.transcripts.fingerprint import Fingerprint
from turnlane.transcripts.glance import Glance
from turnlane.transcripts.journal import HEADER_BYTES, Journal, session_id_of
from turnlane.transcripts.layout import paths_beside
from turnlane.transcripts.record import State
from turnlane.transcripts.sight import Sight

__all__ = ("Looker",)


class Looker:
    """Looks at transcripts.

    Args:
        foreign: files without a journal belong to other programs, and are held against the last look; False where they
            belong here, and nobody owns them.
        state_dir: where the journals are; None for beside the transcripts.
        boot: names this boot of the machine.
        files: the calls to look with.
    """

    __slots__ = ("_boot", "_files", "_foreign", "_state_dir")

    def __init__(self, *, foreign: bool, state_dir: str | None, boot: bytes, files: Files) -> None:
        self._state_dir = state_dir
        self._foreign = foreign
        self._boot = boot
        self._files = files

    def look(
        self,
        path: str,
        before: Sight | None,
        *,
        thorough: bool = False,
        insist: bool = False,
        limit: int | None = None,
        rest: Callable[[], None] = lambda: None,
    ) -> Sight:
        """Look at a transcript. What goes wrong is the `trouble` of what is returned.

        Args:
            path: of the file.
            before: the last look, if there was one that said something.
            thorough: read it whatever its fingerprint says.
            insist: judge it also where a write has begun and does not end.
            limit: how many bytes may be read; None for any number.
            rest: called after each piece.

        Raises:
            TooLong: more would have to be read. Nothing was found out.
        """
        try:
            glance = Glance(self._files, path, before, thorough, limit, rest)
            journal = self._files.status_of(self._journal_of(path))
            if journal is not None:
                return self._owned(glance, insist=insist, short=journal.st_size < HEADER_BYTES)
            if before is not None and before.state is not None and before.state.length:
                return glance.without_journal(before)
            return glance.foreign() if self._foreign else glance.unknown(Sight())
        except (OSError, TranscriptUnavailable) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return Sight(trouble=reason)

    def record_of(self, path: str, session_id: str) -> int:
        """Return the number of the record in the journal now; -1 where it can not be read."""
        try:
            journal = Journal(self._files, self._journal_of(path), session_id, create=False)
        except OSError:
            return -1
        try:
            record = journal.read()
            return 0 if record is None else record.number
        except OSError:
            return -1
        finally:
            journal.close()

    def fingerprint_of(self, path: str) -> Fingerprint | None:
        """Return the fingerprint of a file now; None for no file, or one that can not be looked at."""
        try:
            status = self._files.status_of(path)
        except OSError:
            return None
        return None if status is None else Fingerprint.of(status)

    def _journal_of(self, path: str) -> str:
        return paths_beside(path, self._state_dir).journal

    def may_be_settled(self, path: str, sight: Sight) -> bool:
        """Tell whether the journal says anything new of a change that was found."""
        if sight.session_id is None or not sight.record:
            return self.fingerprint_of(self._journal_of(path)) is not None
        return self.record_of(path, sight.session_id) != sight.record

    def _owned(self, glance: Glance, *, insist: bool, short: bool) -> Sight:
        if short:  # whoever makes it has not come far
            return Sight(moving=not insist)
        path, before = glance.path, glance.before
        known = None if before is None else before.session_id
        session_id = known if known is not None else session_id_of(self._files, self._journal_of(path))
        if session_id is None:
            return Sight(moving=not insist)
        journal = Journal(self._files, self._journal_of(path), session_id, create=False)
        try:
            record = journal.read()
            if record is None or record.is_deleted:
                base = Sight(session_id=session_id, record=0 if record is None else record.number, state=State())
                sight = glance.unknown(base)
            elif record.intent is not None and not insist:
                return Sight(moving=True)
            else:
                payload = b"" if record.intent is None else journal.read_payload(record.intent.payload)
                sight = glance.owned(session_id, record, payload, boot=self._boot)
            if sight.kind is None:
                return sight
            # In this order: a third party's write that ends in between has its record before its end is told.
            announced = _is_announced(journal, sight.record)
            after = journal.read()
            same = (0 if after is None else after.number) == sight.record
            return Sight(moving=True, announced=announced and same) if announced or not same else sight
        finally:
            journal.close()


def _is_announced(journal: Journal, number: int) -> bool:
    """Tell whether somebody has the file written by a third party just now."""
    if journal.announced() != number:
        return False
    if not journal.try_lock():
        return True
    journal.unlock()  # whoever announced it has died
    return False
