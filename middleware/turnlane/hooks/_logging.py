"""The log as a listener: one record per turn, from which "same key? which session?" is answered."""

import logging

from turnlane.hooks._dispatcher import Hooks
from turnlane.hooks._events import (
    DuplicateRefused,
    DuplicateReplayed,
    LaneLost,
    SessionMinted,
    TakeoverFound,
    TranscriptAdopted,
    TurnCoalescing,
    TurnFinished,
    TurnInterruption,
    TurnRefused,
    TurnSteering,
    UnownedEditFound,
)

__all__ = ("LoggingHook",)


class LoggingHook:
    """Writes one record per turn: `Runtime(hooks=[LoggingHook()])`.

    A record joins the key's digest, the session id and whether it is new or reused, the turn id and the outcome,
    as `key=value` text and as attributes of the record (`turnlane_key`, `turnlane_session`, `turnlane_turn`,
    `turnlane_outcome`). The key itself is never written.

    Args:
        logger: where to; its handlers and level are yours.
        level: of what goes as intended; a turn that failed, was cut off or never ran is a warning.
    """

    def __init__(self, logger: logging.Logger | None = None, *, level: int = logging.INFO) -> None:
        self._logger = logger if logger is not None else logging.getLogger("turnlane.turns")
        self._level = level

    def __repr__(self) -> str:
        return f"<LoggingHook {self._logger.name}>"

    def register(self, hooks: Hooks) -> None:
        """Listen to how turns end, where messages went, to interruptions, lost lanes, duplicates, sessions, edits."""
        hooks.on(TurnFinished, self._finished)
        hooks.on(TurnRefused, self._refused)
        hooks.on(TurnInterruption, self._interruption)
        hooks.on(LaneLost, self._lost)
        hooks.on(TurnCoalescing, self._redirected)
        hooks.on(TurnSteering, self._redirected)
        hooks.on(DuplicateReplayed, self._replayed)
        hooks.on(DuplicateRefused, self._duplicate)
        hooks.on(SessionMinted, self._minted)
        hooks.on(TakeoverFound, self._takeover)
        hooks.on(TranscriptAdopted, self._adopted)
        hooks.on(UnownedEditFound, self._unowned_edit)

    def _finished(self, event: TurnFinished) -> None:
        is_new = event.session_is_new
        session = "-" if event.session_id is None else event.session_id
        self._logger.log(
            self._level if event.outcome == "completed" else logging.WARNING,
            "turn_finished key=%s session=%s session_is=%s turn=%s outcome=%s waited_ms=%.0f ran_ms=%.0f",
            event.key_digest,
            session,
            "-" if is_new is None else "new" if is_new else "reused",
            event.turn,
            event.outcome,
            event.waited * 1000,
            event.ran * 1000,
            extra=_attributes(event.key_digest, event.session_id, event.turn, event.outcome),
        )

    def _refused(self, event: TurnRefused) -> None:
        self._logger.warning(
            "turn_refused key=%s turn=%s outcome=%s waited_ms=%.0f",
            event.key_digest,
            event.turn,
            event.reason,
            event.waited * 1000,
            extra=_attributes(event.key_digest, None, event.turn, event.reason),
        )

    def _interruption(self, event: TurnInterruption) -> None:
        self._logger.log(
            self._level,
            "turn_interruption key=%s turn=%s by=%s grace_s=%g",
            event.key_digest,
            event.turn,
            event.by or "operator",
            event.grace,
        )

    def _lost(self, event: LaneLost) -> None:
        self._logger.warning(
            "lane_lost key=%s turn=%s engine=%s",
            event.key_digest,
            event.turn,
            event.engine,
            extra=_attributes(event.key_digest, None, event.turn, "lost"),
        )

    def _replayed(self, event: DuplicateReplayed) -> None:
        self._logger.log(
            self._level,
            "duplicate_replayed key=%s message=%s status=%d",
            event.key_digest,
            event.message,
            event.status,
        )

    def _duplicate(self, event: DuplicateRefused) -> None:
        self._logger.warning(
            "duplicate_refused key=%s message=%s reason=%s", event.key_digest, event.message, event.reason
        )

    def _redirected(self, event: TurnCoalescing | TurnSteering) -> None:
        outcome = "coalesced" if isinstance(event, TurnCoalescing) else "steered"
        self._logger.log(
            self._level,
            "turn_redirected key=%s turn=%s outcome=%s into=%s",
            event.key_digest,
            event.turn,
            outcome,
            event.into,
            extra=_attributes(event.key_digest, None, event.turn, outcome),
        )

    def _takeover(self, event: TakeoverFound) -> None:
        self._logger.warning(
            "transcript_takeover session=%s turn=%s kind=%s phase=%s path=%s line=%s salvaged=%s",
            event.session_id,
            event.turn or "-",
            event.kind,
            event.phase,
            event.path,
            "-" if event.line is None else event.line,
            event.salvaged or "-",
        )

    def _adopted(self, event: TranscriptAdopted) -> None:
        self._logger.warning(
            "transcript_adopted session=%s turn=%s kind=%s path=%s",
            event.session_id,
            event.turn or "-",
            event.kind,
            event.path,
        )

    def _unowned_edit(self, event: UnownedEditFound) -> None:
        self._logger.warning(
            "transcript_unowned_edit session=%s turns=%s kind=%s path=%s line=%s",
            "-" if event.session_id is None else event.session_id,
            ",".join(turn or "-" for turn in event.turns) or "-",
            event.kind,
            event.path,
            "-" if event.line is None else event.line,
        )

    def _minted(self, event: SessionMinted) -> None:
        self._logger.log(
            self._level,
            "session_minted key=%s session=%s replaced=%s",
            event.key_digest,
            event.session_id,
            event.replaced or "-",
        )


def _attributes(key: str, session: str | None, turn: str, outcome: str) -> dict[str, str | None]:
    return {
        "turnlane_key": key,
        "turnlane_session": session,
        "turnlane_turn": turn,
        "turnlane_outcome": outcome,
    }
