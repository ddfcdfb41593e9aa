"""File names for transcripts: no session id can leave its directory or share a file with another."""

import re
from hashlib import blake2b

__all__ = (
    "JOURNAL_SUFFIX",
    "SALVAGE_SUFFIX",
    "TOMBSTONE_SUFFIX",
    "TRACES_SUFFIX",
    "TRANSCRIPT_SUFFIX",
    "buried",
    "is_transcript",
    "stem_of",
    "where_it_belongs",
)

TRANSCRIPT_SUFFIX = ".jsonl"
JOURNAL_SUFFIX = ".jsonl.journal"
SALVAGE_SUFFIX = ".salvage.jsonl"
TOMBSTONE_SUFFIX = ".tombstone.jsonl"
TRACES_SUFFIX = ".jsonl.traces"

PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
DIGESTED = re.compile(r"[a-z0-9_-]{0,40}~[0-9a-f]{32}")
NOT_PLAIN = re.compile(r"[^a-z0-9_-]+")
READABLE = 40


def stem_of(session_id: str) -> str:
    """Return the name of a transcript without its suffix.

    An id of lower-case ASCII letters, digits, `_` and `-` is its own name. Any other keeps what is readable of it and
    gets a digest, after a `~` which no plain name holds: file systems that fold case, normalise Unicode or stop at 255
    bytes keep different ids apart, and a dot or a slash never reaches them.
    """
    if PLAIN.fullmatch(session_id):
        return session_id
    digest = blake2b(session_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    readable = NOT_PLAIN.sub("-", session_id.lower())[:READABLE].strip("-")
    return f"{readable}~{digest}"


def where_it_belongs(name: str) -> str | None:
    """Return what to do with a file whose name does not tell whose transcript it is; None where it does."""
    stem = name.removesuffix(TRANSCRIPT_SUFFIX)
    if stem == name:
        return f"its name does not end in {TRANSCRIPT_SUFFIX}: rename or remove it"
    if PLAIN.fullmatch(stem):
        return None
    if DIGESTED.fullmatch(stem):
        return "its name is made of a session id and does not tell it: it is adopted when that session is opened"
    belongs = stem_of(stem) + TRANSCRIPT_SUFFIX
    return f"no session of a directory has a file of this name, {stem!r} has {belongs}: rename or remove it"


def is_transcript(name: str) -> bool:
    """Tell whether a file of a directory of transcripts is one, not something beside one."""
    return name.endswith(TRANSCRIPT_SUFFIX) and not name.endswith((SALVAGE_SUFFIX, TOMBSTONE_SUFFIX))


def buried(name: str) -> tuple[str, float] | None:
    """Return the stem of a tombstone and when it was made, in seconds since the epoch; None for another file."""
    stem, dot, at = name.removesuffix(TOMBSTONE_SUFFIX).rpartition(".")
    if not name.endswith(TOMBSTONE_SUFFIX) or not dot or not at.isdigit():
        return None
    return stem, int(at) / 1000
