"""What one look at a transcript has found."""

from dataclasses import dataclass

from turnlane.transcripts.finding import ChangeKind
from turnlane.transcripts.fingerprint import Fingerprint
from turnlane.transcripts.outline import Outline
from turnlane.transcripts.record import State

__all__ = ("Sight",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one look has found.

    Attributes:
        session_id: whose transcript it is; None where no journal tells.
        record: the number of the journal's record that was held against it; 0 for none.
        version: how many owned writes there were.
        state: what was owned then; None where there is no journal.
        fingerprint: of the file; None for no file.
        outline: of what is owned, or of what was there; None where that was never read.
        kind: how it was changed by somebody who does not own it; None for not at all.
        offset: the first byte that differs; None where that can not be told.
        line: the same as a line, from 1.
        there: what is there; None where it was not read.
        moving: somebody is writing: nothing can be said now.
        announced: by a third party, whose end is told.
        trouble: why it could not be looked at; None if it could.
    """

    session_id: str | None = None
    record: int = 0
    version: int = 0
    state: State | None = None
    fingerprint: Fingerprint | None = None
    outline: Outline | None = None
    kind: ChangeKind | None = None
    offset: int | None = None
    line: int | None = None
    there: State | None = None
    moving: bool = False
    announced: bool = False
    trouble: str | None = None
