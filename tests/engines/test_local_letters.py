"""Notes between the workers of a directory: what is written is what is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlane.engines.base import Carried, Draining, Granted, Interrupted, Lost, Offered, Over, Told
from turnlane.engines.local.letters import LONGEST, letter_of, note_in

NAMES = st.text(st.characters(exclude_categories=()), max_size=20)


@given(NAMES, NAMES, st.integers(1, 2**62))
def test_a_plain_grant_comes_as_it_was_sent(key: str, ticket: str, token: int) -> None:
    """Whatever is in the names: spaces, digits, what begins another letter, halves of characters."""
    note = Granted(key, ticket, token)
    assert note_in(letter_of(note)) == note


@pytest.mark.parametrize(
    "note",
    [
        Granted("key", "t1", 7, owes=True),
        Granted("key", "t1", 7, carried=(Carried("t0", b"\xff"),), dropped=(b"\x00",)),
        Over("key", "t1", "coalesced", "t2", b"\xfe"),
        Interrupted("key", "t1", "t2", 1.5, rollback=True),
        Offered("key", "t1", "t2", "me", b"x"),
        Lost("key", "t1"),
        Draining(True),
    ],
    ids=lambda note: type(note).__name__,
)
def test_every_other_note_comes_as_it_was_sent(note: Told) -> None:
    """With all that it says."""
    assert note_in(letter_of(note)) == note


def test_of_a_note_that_is_too_long_comes_where_to_look() -> None:
    """Its lane and its ticket, which fit."""
    assert note_in(letter_of(Over("key", "t1", "coalesced", "t2", bytes(LONGEST)))) == ("key", "t1")


@pytest.mark.parametrize("letter", [b"", b"+", b"+7", b"+7 x key", b"+7 1 \xff\xfe", b"[]", b'["Granted"]', b"{"])
def test_what_is_no_letter_is_no_note(letter: bytes) -> None:
    """Nor an error: anybody of this machine may write to a socket."""
    assert note_in(letter) is None
