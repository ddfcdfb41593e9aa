"""What is wrong with a transcript that does not hold what is owned: which kind of change, and where."""

from dataclasses import dataclass
from typing import Literal

from turnlane.transcripts.digest import Chain
from turnlane.transcripts.record import State

__all__ = ("ChangeKind", "Finding", "found_in", "holds_at")

ChangeKind = Literal["appended", "edited", "truncated", "replaced", "deleted", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One change that nobody owns.

    Attributes:
        kind: what was done, as far as it can be told.
        offset: the first byte that differs; None where the old content is not known well enough.
        line: the same as a line, from 1.
        expected: what was owned.
        found: what is there.
    """

    kind: ChangeKind
    offset: int | None
    line: int | None
    expected: State
    found: State | None

    @property
    def expected_words(self) -> str:
        """What was owned, in words."""
        return _words(self.expected)

    @property
    def found_words(self) -> str:
        """What is there, in words."""
        return "no file" if self.found is None else _words(self.found)


def found_in(chain: Chain | None, owned: State, *, replaced: bool, known: Chain | None) -> Finding:
    """Say how some content differs from the owned state.

    Args:
        chain: of what is there; None for no file.
        owned: what should be there.
        replaced: whether another file has its name.
        known: the chain of the owned content, where it is still at hand.
    """
    if chain is None:
        return Finding(kind="deleted", offset=None, line=None, expected=owned, found=None)
    found = State(chain.length, len(chain.digests), chain.digest)
    appended = chain.length > owned.length and holds_at(chain, owned)
    kind: ChangeKind
    number: int | None = None
    if appended:
        kind, number = "appended", owned.lines
    else:
        number = None if known is None else chain.first_difference(known)
        cut = chain.length < owned.length and known is not None and number is None
        kind, number = ("truncated", len(chain.digests)) if cut else ("edited", number)
    if replaced:
        kind = "replaced"
    offset = _offset_of(chain, number)
    return Finding(kind=kind, offset=offset, line=None if number is None else number + 1, expected=owned, found=found)


def holds_at(chain: Chain, owned: State) -> bool:
    """Tell whether the content begins with the owned one."""
    if not owned.lines:
        return owned.length == 0
    return owned.lines <= len(chain.digests) and chain.digests[owned.lines - 1] == owned.digest


def _offset_of(chain: Chain, number: int | None) -> int | None:
    if number is None:
        return None
    return chain.offsets[number] if number < len(chain.offsets) else chain.length


def _words(state: State) -> str:
    return f"{state.lines} lines, {state.length} bytes, digest {state.digest.hex()[:12]}"
