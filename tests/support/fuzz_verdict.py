"""What is said against the outcome of a fuzzed request."""

import asyncio
import json
import traceback
from collections.abc import Iterator, Mapping

from support.fuzz_exchange import Exchange
from turnlane import errors, keys

__all__ = ("complaints", "outcome", "overlong")

CODES: Mapping[int, frozenset[str]] = {
    400: frozenset({"session_key_required"}),
    409: frozenset({"lane_busy", "turn_interrupted"}),
    413: frozenset({"body_too_large"}),
    422: frozenset({"session_key_invalid"}),
    429: frozenset({"lane_full"}),
    503: frozenset({"capacity"}),
}
GONE = 499  # ends, with nothing in it, the request of a client that left; see DESIGN.md
ONLY_CONTENDED = frozenset({409, 429})
PROBLEM = b"application/problem+json"
MAY_RETRY = frozenset({"lane_busy", "lane_full", "capacity"})


def outcome(exchange: Exchange) -> str:
    """Name what became of a request."""
    if exchange.cancelled:
        return "cancelled"
    if exchange.finished:
        if exchange.turn is None:
            return "passed"
        return "in its lane after a wait" if exchange.turn.position else "in its lane"
    if exchange.calls:
        return "broken off"
    status = exchange.sent[0]["status"] if exchange.sent else GONE
    return "client gone" if status == GONE else str(status)


def overlong(exchange: Exchange) -> bool:
    """Tell whether the body is longer than the middleware reads, or says it is."""
    values = [value for name, value in exchange.drawn.headers or () if name == b"content-length"]
    declared = [int(value) for value in values if value.isdigit() and len(value) < 20]
    return max(len(exchange.drawn.body), *declared, 0) > exchange.target.body_limit


def complaints(exchange: Exchange, error: BaseException | None) -> list[str]:
    """Return what is wrong with a request that has ended, where `error` is what left the middleware."""
    wrong = [*exchange.wrong, *_of_the_end(exchange, error)]
    if exchange.calls:
        wrong += _of_the_call(exchange)
    elif error is None:
        wrong += _of_the_silence(exchange)
    if error is None:
        wrong += _of_the_response(exchange)
        if not exchange.cancelled:
            wrong += _of_the_choice(exchange)
    return wrong


def _of_the_end(exchange: Exchange, error: BaseException | None) -> Iterator[str]:
    if error is not None and not _may_raise(exchange, error):
        yield "an exception left the middleware:\n" + "".join(traceback.format_exception(error))
    if exchange.turn is not None and exchange.turn.running:
        yield "the turn has not ended"


def _may_raise(exchange: Exchange, error: BaseException) -> bool:
    if error is exchange.raised:
        return True
    if isinstance(error, asyncio.CancelledError):
        return exchange.cancelled
    # An interrupted turn whose response has begun is raised, so that the server breaks the connection off. So is one
    # that was interrupted in its first `send`, of which nobody knows whether it left.
    begun = exchange.calls and (exchange.sent or exchange.sending)
    return isinstance(error, errors.TurnInterrupted) and exchange.contended and bool(begun)


def _of_the_call(exchange: Exchange) -> Iterator[str]:
    if exchange.calls > 1:
        yield f"the app was called {exchange.calls} times"
    if exchange.gone_before_app:
        yield "the app was called for a client that had left"
    read, body = b"".join(exchange.read), exchange.drawn.body
    if not body.startswith(read):
        yield f"the app read {read[:200]!r}, the client sent {body[:200]!r}"
    elif exchange.complete and (read != body or exchange.drawn.cut):
        yield f"the app read {len(read)} bytes to the end, the client sent {len(body)}"
    elif exchange.app_told_gone and not (exchange.gone or (exchange.ended and exchange.target.finishes)):
        yield "the app was told that a client had gone that stayed"


def _of_the_silence(exchange: Exchange) -> Iterator[str]:
    if not exchange.sent:
        if exchange.raised is None:
            yield "neither was the app called nor the client answered"
    elif exchange.sent[0]["status"] == GONE:
        if not exchange.told_gone:
            yield "a client that stayed was taken for gone"
        if exchange.sent[0]["headers"] or any(message.get("body") for message in exchange.sent[1:]):
            yield f"a response for nobody that is not empty: {exchange.sent!r}"
    # Who is superseded, and leaves before that could be said, is told nevertheless.
    elif exchange.told_gone and not exchange.contended:
        yield "a client that had left was answered"


def _of_the_response(exchange: Exchange) -> Iterator[str]:
    # A turn interrupted in the `send` of its last message leaves that unsent; the server then breaks off.
    if exchange.sent and not (exchange.ended or exchange.raised or exchange.sending):
        yield "the response was not completed"
    if not exchange.ended or exchange.sent[0]["status"] in (200, GONE):
        return
    start, body = exchange.sent[0], b"".join(message.get("body", b"") for message in exchange.sent[1:])
    status, headers = start["status"], dict(start["headers"])
    if status not in CODES or (status in ONLY_CONTENDED and not exchange.contended):
        yield f"refused with {status}: {body!r}"
        return
    try:
        document = json.loads(body)
        code, detail = document["error"]["code"], document["error"]["message"]
        same = document["status"] == status and document["detail"] == detail
    except (ValueError, KeyError, TypeError):
        yield f"not the document of a refusal: {body!r}"
        return
    told = headers.get(b"retry-after", b"")
    retry = told.isdigit() and 1 <= int(told) <= 60 if code in MAY_RETRY else headers.get(b"x-should-retry") == b"false"
    kind, length = headers.get(b"content-type"), headers.get(b"content-length")
    if not (same and retry and code in CODES[status] and kind == PROBLEM and length == b"%d" % len(body)):
        yield f"not a well-formed refusal: {start!r} {body!r}"
    if isinstance(exchange.expected, str) and len(exchange.expected) > 8 and exchange.expected in detail:
        yield f"the refusal tells the session key: {body!r}"


def _of_the_choice(exchange: Exchange) -> Iterator[str]:
    target, drawn = exchange.target, exchange.drawn
    if drawn.fields["method"] not in target.methods:
        if exchange.turn is not None or not exchange.calls:
            yield "a request that has no lane was not passed through"
        return
    key = None if exchange.turn is None else exchange.turn.key
    if key is not None and (keys.canonical(key, "key") != key or len(key.encode()) > keys.MAX_KEY_BYTES):
        yield f"the lane's key is not canonical: {key!r}"
    if not target.exact or drawn.cut or exchange.gone or (exchange.calls and not exchange.finished):
        return
    expected = 400 if exchange.expected is None and target.required else exchange.expected
    found = key if exchange.calls else next((message["status"] for message in exchange.sent[:1]), 0)
    if found != expected and found not in _excuses(exchange):
        yield f"found {found!r} where the extractor alone finds {expected!r}"


def _excuses(exchange: Exchange) -> set[int]:
    excuses = set(ONLY_CONTENDED) if exchange.contended else set[int]()
    if exchange.target.reads_ahead and overlong(exchange):
        excuses.add(413)
    too_much = exchange.target.reads_ahead and len(exchange.drawn.body) > exchange.target.body_budget
    if exchange.contended or too_much:
        excuses.add(503)
    return excuses
