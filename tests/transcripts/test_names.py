"""Names of files: whatever a session is called."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.transcripts_scenes import said, user
from turnlane.errors import TranscriptUnavailable
from turnlane.transcripts import Transcripts
from turnlane.transcripts.names import JOURNAL_SUFFIX, SALVAGE_SUFFIX, TRANSCRIPT_SUFFIX, stem_of

IDS = [
    *("a", "A", "../a", "/etc/passwd", "..", ".", "a/b", "a\\b", "a.salvage", "a.jsonl", "con", "NUL", "a b", " ", "~"),
    *("-", "\n", "a~b", "x" * 80, "x" * 81, "x" * 512, "\U0001f4ac" * 100),
    *("\u00e9", "e\u0301", "\u0130", "\u0131", "\u017f", "K", "\u212a"),  # what folding or normalising makes equal
]


@pytest.mark.parametrize("session_id", IDS)
async def test_each_id_has_a_transcript_of_its_own(tmp_path: Path, session_id: str) -> None:
    """Inside the directory, listed under its own name."""
    transcripts = Transcripts(tmp_path / "here")
    for number, other in enumerate(IDS):
        await transcripts.append(other, user(f"{number}"))
    assert said(await transcripts.read(session_id)) == [str(IDS.index(session_id))]
    assert set(await transcripts.list()) == set(IDS)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_different_ids_differ_where_case_and_form_do_not_count(one: str, other: str) -> None:
    """On file systems that fold case or normalise, and short enough for all of them."""
    stems = [unicodedata.normalize("NFC", stem_of(each)).casefold() for each in (one, other)]
    assert (stems[0] == stems[1]) == (one == other)
    for stem in stems:
        assert stem.isascii()
        assert not set(stem) & set('/\\.\0:*?"<>| ')
        assert len(stem + SALVAGE_SUFFIX) <= 120


def test_plain_names_stay_readable() -> None:
    """And what is not plain keeps what can be read of it."""
    assert stem_of("0197f3c2-session_1") == "0197f3c2-session_1"
    assert stem_of("Agent:Main:Ada").startswith("agent-main-ada~")
    assert {TRANSCRIPT_SUFFIX, JOURNAL_SUFFIX, SALVAGE_SUFFIX} == {".jsonl", ".jsonl.journal", ".salvage.jsonl"}


async def test_the_journal_of_another_session_is_refused(tmp_path: Path) -> None:
    """Somebody renamed files: the id in the journal must be the one asked for."""
    transcripts = Transcripts(tmp_path)
    await transcripts.append("a", user("words"))
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    (tmp_path / "a.jsonl.journal").rename(tmp_path / "b.jsonl.journal")
    with pytest.raises(TranscriptUnavailable, match="the journal of session 'a', not of 'b'"):
        await transcripts.append("b", user("words"))


@pytest.mark.parametrize("session_id", ["", "x" * 513, "é" * 257, "a\0b", None, 7])
async def test_what_is_no_id_is_refused(tmp_path: Path, session_id: str) -> None:
    """Before anything is touched."""
    transcripts = Transcripts(tmp_path / "here")
    with pytest.raises(ValueError, match="session id"):
        await transcripts.append(session_id, user("words"))
    with pytest.raises(ValueError, match="session id"):
        await transcripts.read(session_id)
    assert not (tmp_path / "here").exists()
