"""The statements of the engine: each calls one function in the database."""

from turnlane.engines.base import Ask
from turnlane.postgresql import stored

__all__ = (
    "ACQUIRE",
    "ACQUIRE_AGAIN",
    "AT_OPENING",
    "CLOSE",
    "DRAIN",
    "FATES",
    "IDLE",
    "INTERRUPT",
    "LAST_DRAIN",
    "LEAVE",
    "LOOK",
    "PAUSE",
    "RENEW",
    "SETTLE",
    "SWEEP",
    "acquire_values",
    "micros",
)

ACQUIRE = "SELECT {schema}.lane_acquire_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
ACQUIRE_AGAIN = (
    "SELECT coalesce((SELECT json_build_array('Over', key, ticket, how, taker, {schema}.lane_text_1(payload)) "
    "FROM {schema}.lane_fate WHERE ticket = $4), "
    "{schema}.lane_acquire_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15))"
)
LEAVE = "SELECT {schema}.lane_leave_2($1, $2, $3, $4, $5)"
SETTLE = "SELECT {schema}.lane_settle_1($1, $2, $3, $4, $5, $6)"
INTERRUPT = "SELECT {schema}.lane_interrupt_1($1, $2, $3)"
PAUSE = "SELECT {schema}.lane_pause_1($1, $2, $3)"
RENEW = "SELECT place, note FROM {schema}.lane_renew_1($1, $2, $3, $4, $5, $6)"
DRAIN = "SELECT {schema}.lane_drain_1($1, $2)"
LAST_DRAIN = "SELECT number, draining FROM {schema}.lane_drain"
AT_OPENING = "SELECT number, secret FROM {schema}.lane_drain, {schema}.lane_secret"
LOOK = "SELECT lane FROM {schema}.lane_look_1($1)"
CLOSE = "SELECT {schema}.lane_close_1($1, $2)"
SWEEP = "SELECT {schema}.lane_sweep_1($1, $2, $3, $4)"

IDLE = 3600.0  # seconds for which the last token of an idle lane is kept in its row
FATES = 60.0  # seconds; whoever asks again does so within a few


def micros(seconds: float) -> int:
    """Return microseconds, which is what all times are in the database."""
    return round(seconds * 1e6)


def acquire_values(worker: str, lease: int, key: str, ask: Ask) -> tuple[object, ...]:
    """Return the values of `ACQUIRE`."""
    who = (worker, lease, stored(key), stored(ask.ticket))
    wishes = (ask.room, ask.over, ask.grace, stored(ask.tag), micros(ask.window), ask.most, ask.overflow)
    return (*who, *wishes, ask.steer, stored(ask.whom), ask.payload, ask.number)
