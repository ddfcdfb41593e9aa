"""The record of a transcript: what its journal says is owned, and what is being written.

A journal has two places for records and writes them in turn, so that the older one stands whole while the newer one is
being written. Each has a checksum; the one with the higher number counts.
"""

import secrets
import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from hashlib import blake2b

from turnlane.transcripts.digest import DIGEST_BYTES, EMPTY
from turnlane.transcripts.fingerprint import Fingerprint

__all__ = (
    "MEMORY_BYTES",
    "RECORD_BYTES",
    "Intent",
    "Kind",
    "Record",
    "State",
    "drawn",
    "newest",
    "packed",
    "packed_memory",
    "unpacked",
    "unpacked_memory",
)

RECORD_BYTES = 512
BOOT_BYTES = 16
TURN_BYTES = 80
CHECK_BYTES = 16

_NOTHING = Fingerprint(0, 0, 0, 0, 0)
_STATE = struct.Struct(f"<QQ{DIGEST_BYTES}s")
_HEAD = struct.Struct(f"<4sBBQQQqQQQ3Q2q{BOOT_BYTES}sB{TURN_BYTES}s")
_VERSION = struct.Struct("<Q")
_MAGIC = b"TLR1"

MEMORY_BYTES: int = _VERSION.size + _STATE.size


class Kind(IntEnum):
    """What a journal is doing."""

    NOTHING = 0
    APPEND = 1
    REWRITE = 2
    DELETE = 3


@dataclass(frozen=True, slots=True)
class State:
    """The content of a transcript: how many bytes, how many lines, and their chained digest."""

    length: int = 0
    lines: int = 0
    digest: bytes = EMPTY


@dataclass(frozen=True, slots=True)
class Intent:
    """An owned write that has begun: what the content will be, and how many bytes of payload the journal holds."""

    kind: Kind
    state: State
    payload: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is owned.

    Attributes:
        number: grows by one with each record written.
        version: grows by one with each owned write, and with each adoption.
        state: the owned content.
        fingerprint: of the file when it held that content; None where it is not known.
        settled: whether a change since then would have moved the fingerprint.
        token: the highest token that has written; 0 for none.
        adopted: names the adoption this goes back to, of a change nobody owned or of the empty beginning; 0 for none.
        rewritten: the version that was no append; 0 for none.
        deleted: the version that took the file away; 0 for none.
        boot: names the boot of the machine it was written in.
        turn: the turn that wrote last; empty for none.
        intent: the write that has begun; None where none has.
    """

    number: int = 0
    version: int = 0
    state: State = State()
    fingerprint: Fingerprint | None = None
    settled: bool = False
    token: int = 0
    adopted: int = 0
    rewritten: int = 0
    deleted: int = 0
    boot: bytes = bytes(BOOT_BYTES)
    turn: str = ""
    intent: Intent | None = None

    @property
    def is_deleted(self) -> bool:
        """Whether there is no file, rightly."""
        return self.deleted > 0 and self.deleted == self.version

    def begun(self, intent: Intent, *, token: int, turn: str, boot: bytes) -> "Record":
        """Return the record of a write that begins."""
        highest = max(self.token, token)
        return replace(self, number=self.number + 1, intent=intent, token=highest, turn=turn, boot=boot)

    def given_up(self) -> "Record":
        """Return the record of a write that came to nothing; the token it brought stays."""
        return replace(self, number=self.number + 1, intent=None)

    def done(self, fingerprint: Fingerprint | None, *, settled: bool) -> "Record":
        """Return the record of the write that has ended.

        Raises:
            ValueError: none had begun.
        """
        if self.intent is None:
            raise ValueError("no write has begun")
        rewritten = self.intent.kind is Kind.REWRITE
        return self._next(self.intent.state, fingerprint, settled=settled, rewritten=rewritten)

    def seen(self, fingerprint: Fingerprint | None, *, settled: bool, boot: bytes | None = None) -> "Record":
        """Return the record of a file whose content was found to be the owned one."""
        boot = self.boot if boot is None else boot
        return replace(self, number=self.number + 1, fingerprint=fingerprint, settled=settled, boot=boot)

    def shortened(self, state: State, fingerprint: Fingerprint | None, *, boot: bytes) -> "Record":
        """Return the record of a file that has lost its tail in a power loss."""
        return replace(self._next(state, fingerprint, settled=False, rewritten=True), boot=boot)

    def removed(self) -> "Record":
        """Return the record of a file that was taken away."""
        gone = self._next(State(), None, settled=False, rewritten=True)
        return replace(gone, deleted=gone.version)

    def written(
        self,
        state: State,
        fingerprint: Fingerprint | None,
        *,
        settled: bool,
        token: int,
        turn: str,
        rewritten: bool,
        boot: bytes,
    ) -> "Record":
        """Return the record of a write that somebody else made for us, and that was approved."""
        made = self._next(state, fingerprint, settled=settled, rewritten=rewritten)
        return replace(made, token=max(self.token, token), turn=turn, boot=boot)

    def taken_in(
        self, state: State, fingerprint: Fingerprint | None, *, settled: bool, token: int, turn: str, boot: bytes
    ) -> "Record":
        """Return the record of a change nobody owned that was adopted."""
        made = self.written(state, fingerprint, settled=settled, token=token, turn=turn, rewritten=True, boot=boot)
        return replace(made, adopted=drawn())

    def _next(self, state: State, fingerprint: Fingerprint | None, *, settled: bool, rewritten: bool) -> "Record":
        """Return the record of the next version, with no write begun."""
        version = self.version + 1
        return replace(
            self,
            number=self.number + 1,
            version=version,
            state=state,
            fingerprint=fingerprint,
            settled=settled,
            rewritten=version if rewritten else self.rewritten,
            intent=None,
        )


def drawn() -> int:
    """Return the name of an adoption.

    Where a journal was lost, or is an older copy, its versions are had twice; this is not.
    """
    return secrets.randbits(62) + 1


def packed(record: Record) -> bytes:
    """Return `RECORD_BYTES` bytes.

    Raises:
        ValueError: the name of the turn is too long.
    """
    turn = record.turn.encode()
    if len(turn) > TURN_BYTES:
        raise ValueError(f"the name of a turn is longer than {TURN_BYTES} bytes: {record.turn!r}")
    intent = record.intent or Intent(Kind.NOTHING, State(), 0)
    flags = int(record.settled) | (2 if record.fingerprint is not None else 0)
    head = _HEAD.pack(
        _MAGIC,
        intent.kind,
        flags,
        record.number,
        record.version,
        intent.payload,
        record.token,
        record.adopted,
        record.rewritten,
        record.deleted,
        *(record.fingerprint or _NOTHING),
        record.boot,
        len(turn),
        turn,
    )
    body = head + _packed_state(record.state) + _packed_state(intent.state)
    body = body.ljust(RECORD_BYTES - CHECK_BYTES, b"\0")
    return body + _check(body)


def unpacked(content: bytes) -> Record | None:
    """Return the record in `RECORD_BYTES` bytes; None if they hold none, or one that was not written to its end."""
    body, check = content[: RECORD_BYTES - CHECK_BYTES], content[RECORD_BYTES - CHECK_BYTES :]
    if len(content) != RECORD_BYTES or body[:4] != _MAGIC or _check(body) != check:
        return None
    _, kind, flags, number, version, payload, token, adopted, rewritten, deleted, *more = _HEAD.unpack_from(body)
    *fields, boot, length, turn = more
    owned, wanted = (_unpacked_state(body, _HEAD.size + place * _STATE.size) for place in (0, 1))
    return Record(
        number=number,
        version=version,
        state=owned,
        fingerprint=Fingerprint(*fields) if flags & 2 else None,
        settled=bool(flags & 1),
        token=token,
        adopted=adopted,
        rewritten=rewritten,
        deleted=deleted,
        boot=boot,
        turn=turn[:length].decode(),
        intent=None if kind == Kind.NOTHING else Intent(Kind(kind), wanted, payload),
    )


def packed_memory(version: int, state: State) -> bytes:
    """Return `MEMORY_BYTES` bytes that tell what was owned at a version."""
    return _VERSION.pack(version) + _packed_state(state)


def unpacked_memory(content: bytes) -> tuple[int, State]:
    """Return what is in `MEMORY_BYTES` bytes. They have no checksum: what they tell is held against the content."""
    return _VERSION.unpack_from(content)[0], _unpacked_state(content, _VERSION.size)


def newest(places: tuple[bytes, ...]) -> Record | None:
    """Return the record that counts; None if no place holds a whole one."""
    records = [record for place in places if (record := unpacked(place)) is not None]
    return max(records, key=lambda record: record.number, default=None)


def _packed_state(state: State) -> bytes:
    return _STATE.pack(state.length, state.lines, state.digest)


def _unpacked_state(body: bytes, offset: int) -> State:
    return State(*_STATE.unpack_from(body, offset))


def _check(body: bytes) -> bytes:
    return blake2b(body, digest_size=CHECK_BYTES).digest()
